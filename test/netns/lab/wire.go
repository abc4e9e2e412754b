//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"
)

const (
	// largest is the largest packet in bytes that a device without offloads hands over.
	largest = 64 << 10
	// underway is how many packets of one direction may be on a wire, or the queue is full: more than a rate of
	// 500 Mb/s needs.
	underway = 1 << 14
)

// A Wire carries packets between two TUN devices, as Host.Device makes them. Each direction is the same:
//
//	device --> lost? --> queue, served at Rate --> Delay --> other device
//
// Which packets are lost depends on Seed and on how many were before in the direction, and on nothing else: two
// wires of one seed lose the same ones.
type Wire struct {
	Delay time.Duration // of each direction
	Loss  float64       // share of the packets
	Seed  uint64
	Rate  float64       // bits a second; required
	Queue time.Duration // what would wait longer is dropped
}

// Carried is what became of one direction's packets.
type Carried struct {
	Packets    int // that came
	Lost       int // by the wire's nature
	Overflowed int // for want of room in the queue
}

// Carry carries packets until ctx ends, and returns what the first device has sent and what the second has. The
// devices must be in non-blocking mode; they are the caller's, and what ends a Carry is a deadline for reading that
// stays set.
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
	var delivered sync.WaitGroup
	var failed error
	delivered.Go(func() { failed = deliver(to, line) })
	defer func() {
		close(line)
		delivered.Wait()
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
		if dice.Float64() < w.Loss {
			c.Lost++
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
		select {
		case line <- parcel{free.Add(w.Delay), append([]byte(nil), b[:n]...)}:
		default:
			c.Overflowed++
		}
	}
}

// deliver hands packets over when they are due. After a failure it goes on to take them, so that nobody waits for it.
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
