//go:build linux

package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/knockgw/knockgw/internal/packettest"
)

const (
	// largest is the largest packet in bytes that a device without offloads
	// hands over.
	largest = 64 << 10
	// underway is how many packets of one direction may be on a wire, or the
	// queue is full: more than a rate of 500 Mb/s needs.
	underway = 1 << 14
)

// A Wire carries packets between two TUN devices, as Host.Device makes them.
// Each direction is the same:
//
//	device --> lost? --> queue, served at Rate --> Delay --> other device
//
// Which packets are lost depends on Seed and on how many were before in the
// direction, and on nothing else: two wires of one seed lose the same ones.
type Wire struct {
	Delay time.Duration // of each direction
	Loss  float64       // share of the packets
	Seed  uint64
	Rate  float64       // bits a second; required
	Queue time.Duration // what would wait longer is dropped
	// MTU, if it is set, is the size in bytes of the largest packet that gets
	// through. The sender of a larger one hears of it if Tells is set.
	MTU   int
	Tells bool
	// Late is the share of the packets that take LateBy longer, so that others
	// overtake them.
	Late   float64
	LateBy time.Duration
	// Seen, if it is not nil, is given each packet that comes, before it is
	// lost: direction 0 is that from the first device. It is called from one
	// goroutine for each direction and borrows the packet.
	Seen func(direction int, packet []byte)
}

// Carried is what became of one direction's packets.
type Carried struct {
	Packets    int // that came
	Lost       int // by the wire's nature
	Overflowed int // for want of room in the queue
	TooBig     int // larger than the MTU
}

// Carry carries packets until ctx ends, and returns what the first device has
// sent and what the second has. The devices must be in non-blocking mode; they
// are the caller's, and what ends a Carry is a deadline for reading that stays
// set.
func (w *Wire) Carry(ctx context.Context, devices [2]*os.File) ([2]Carried, error) {
	var (
		ways     sync.WaitGroup
		carried  [2]Carried
		failures [2]error
	)
	for i := range devices {
		ways.Go(func() { carried[i], failures[i] = w.carry(devices[i], devices[1-i], uint64(i)) })
	}
	<-ctx.Done()
	var err error
	for _, d := range devices {
		err = errors.Join(err, d.SetReadDeadline(time.Now()))
	}
	ways.Wait()
	return carried, errors.Join(err, errors.Join(failures[:]...))
}

// A parcel is a packet on its way.
type parcel struct {
	due    time.Time
	packet []byte
}

// carry is one direction.
func (w *Wire) carry(from, to *os.File, direction uint64) (c Carried, err error) {
	line := make(chan parcel, underway)
	var delivered, late sync.WaitGroup
	var failed error
	delivered.Go(func() { failed = deliver(to, line) })
	defer func() {
		close(line)
		delivered.Wait()
		late.Wait()
		err = errors.Join(err, failed)
	}()

	dice := rand.New(rand.NewPCG(w.Seed, direction)) //nolint:gosec // losses that can be repeated
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
		if w.Seen != nil {
			w.Seen(int(direction), b[:n])
		}
		if dice.Float64() < w.Loss {
			c.Lost++
			continue
		}
		if w.MTU > 0 && n > w.MTU {
			c.TooBig++
			if w.Tells {
				if err := tooBig(from, b[:n], w.MTU); err != nil {
					return c, err
				}
			}
			continue
		}

		now := time.Now()
		if free.Before(now) {
			free = now
		}
		if free.Sub(now) > w.Queue {
			c.Overflowed++
			continue
		}
		free = free.Add(time.Duration(float64(n*8) / w.Rate * float64(time.Second)))

		if w.Late > 0 && dice.Float64() < w.Late {
			packet, at := append([]byte(nil), b[:n]...), free.Add(w.Delay+w.LateBy)
			late.Go(func() {
				time.Sleep(time.Until(at))
				_, _ = to.Write(packet) // lost, if the device is gone
			})
			continue
		}

		select {
		case line <- parcel{free.Add(w.Delay), append([]byte(nil), b[:n]...)}:
		default:
			c.Overflowed++
		}
	}
}

// tooBig tells the sender of a packet, as a router does, that it was larger
// than mtu.
func tooBig(to *os.File, packet []byte, mtu int) error {
	const quoted = 68 // bytes: enough of either family
	m := packettest.ICMP{Payload: packet[:min(len(packet), quoted)]}
	if packet[0]>>4 == 4 {
		m.Src, _ = netip.AddrFromSlice(packet[16:20])
		m.Dst, _ = netip.AddrFromSlice(packet[12:16])
		m.Type, m.Code = 3, 4
	} else {
		m.Src, _ = netip.AddrFromSlice(packet[24:40])
		m.Dst, _ = netip.AddrFromSlice(packet[8:24])
		m.Type = 2
	}
	binary.BigEndian.PutUint16(m.Rest[2:], uint16(mtu))
	if _, err := to.Write(m.Packet()); err != nil {
		return fmt.Errorf("write an ICMP error: %w", err)
	}
	return nil
}

// deliver hands packets over when they are due. After a failure it continues to
// drain, so that no sender blocks.
func deliver(to *os.File, line <-chan parcel) (err error) {
	for p := range line {
		if err != nil {
			continue
		}
		time.Sleep(time.Until(p.due))
		if _, failed := to.Write(p.packet); failed != nil {
			err = fmt.Errorf("write a packet: %w", failed)
		}
	}
	return err
}
