//go:build linux

package load

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Link carries packets between two TUN devices, whose files are descriptors 3 and 4, until it is asked to end. It
// says Ready when it begins. Each direction is the same:
//
//	device --> lost? --> queue, served at Rate --> Delay --> other device
//
// Which packets are lost depends on Seed and on how many were before in the direction, and on nothing else: two
// links of one seed lose the same ones.
type Link struct {
	Delay time.Duration // of each direction
	Loss  float64       // share of the packets
	Seed  uint64
	Rate  float64       // bits a second
	Queue time.Duration // what would wait longer is dropped
}

// Carried is what became of one direction's packets.
type Carried struct {
	Packets    int // that came
	Lost       int // by the link's nature
	Overflowed int // for want of room in the queue
}

const (
	// firstDevice is the first descriptor that a process is handed over besides its three streams.
	firstDevice = 3
	// largest is the largest packet that a device without offloads hands over.
	largest = 64 << 10
	// underway is how many packets of one direction may be on the link, or the queue is full: more than a rate of
	// 500 Mb/s needs.
	underway = 1 << 14
)

// Run implements Task; the result is a [2]Carried, of what the first device sent and of what the second did.
func (l *Link) Run(out io.Writer) (any, error) {
	var devices [2]*os.File
	for i := range devices {
		// Whoever hands over a file makes it blocking.
		if err := unix.SetNonblock(firstDevice+i, true); err != nil {
			return nil, fmt.Errorf("prepare device %d: %w", i, err)
		}
		devices[i] = os.NewFile(uintptr(firstDevice+i), fmt.Sprintf("device %d", i))
	}
	var (
		ways     sync.WaitGroup
		carried  [2]Carried
		failures [2]error
	)
	for i := range devices {
		ways.Go(func() { carried[i], failures[i] = l.carry(devices[i], devices[1-i], uint64(i)) })
	}
	if _, err := fmt.Fprintln(out, Ready); err != nil {
		return nil, err
	}
	ctx, stop := untilAsked()
	defer stop()
	<-ctx.Done()
	for _, d := range devices {
		if err := d.SetReadDeadline(time.Now()); err != nil {
			return nil, err
		}
	}
	ways.Wait()
	return carried, errors.Join(failures[:]...)
}

// A parcel is a packet on its way.
type parcel struct {
	due    time.Time
	packet []byte
}

// carry is one direction.
func (l *Link) carry(from, to *os.File, direction uint64) (c Carried, err error) {
	line := make(chan parcel, underway)
	var delivered sync.WaitGroup
	var failed error
	delivered.Go(func() { failed = deliver(to, line) })
	defer func() {
		close(line)
		delivered.Wait()
		err = errors.Join(err, failed)
	}()
	dice := rand.New(rand.NewPCG(l.Seed, direction)) //nolint:gosec // a measurement that can be repeated
	var free time.Time                               // when the queue will be empty
	b := make([]byte, largest)
	for {
		n, err := from.Read(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return c, nil
		}
		if err != nil {
			return c, fmt.Errorf("read a packet: %w", err)
		}
		c.Packets++
		if dice.Float64() < l.Loss {
			c.Lost++
			continue
		}
		now := time.Now()
		if free.Before(now) {
			free = now
		}
		if free.Sub(now) > l.Queue {
			c.Overflowed++
			continue
		}
		free = free.Add(time.Duration(float64(n*8) / l.Rate * float64(time.Second)))
		select {
		case line <- parcel{free.Add(l.Delay), append([]byte(nil), b[:n]...)}:
		default:
			c.Overflowed++
		}
	}
}

// deliver hands packets over when they are due.
func deliver(to *os.File, line <-chan parcel) error {
	for p := range line {
		time.Sleep(time.Until(p.due))
		if _, err := to.Write(p.packet); err != nil {
			return fmt.Errorf("write a packet: %w", err)
		}
	}
	return nil
}
