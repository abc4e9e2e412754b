// Package tuntest provides TUN devices for tests that need no kernel and no
// privileges: a Pair of connected devices, where one reads what the other
// writes.
package tuntest

import (
	"os"
	"sync"
	"sync/atomic"

	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/tun"
)

// QueueLength is how many packets may wait at one end of a Pair; more are lost,
// as on a kernel device. Large enough that tests do not lose packets by
// accident.
const QueueLength = 4096

// Pair returns two connected devices with the given MTU in bytes. With offload
// they accept super-packets and incomplete checksums, like those of Linux.
func Pair(mtu int, offload bool) (a, b *Device) {
	ab, ba := make(chan frame, QueueLength), make(chan frame, QueueLength)
	closed := make(chan struct{})
	var once sync.Once
	end := func() { once.Do(func() { close(closed) }) }
	a = &Device{info: tun.Info{Name: "test0", MTU: mtu, Offload: offload}, in: ba, out: ab, closed: closed, end: end}
	b = &Device{info: tun.Info{Name: "test1", MTU: mtu, Offload: offload}, in: ab, out: ba, closed: closed, end: end}
	return a, b
}

type frame struct {
	data    []byte
	offload packet.Offload
}

// Device is one end of a Pair. Closing either end closes both; what had been
// written by then, the other can still read.
type Device struct {
	info    tun.Info
	in, out chan frame
	closed  chan struct{}
	end     func()
	own     atomic.Bool // closed at this end
}

// Read implements tun.Device.
func (d *Device) Read(p *packet.Packet) error {
	select {
	case q := <-d.in:
		p.Data, p.Offload = q.data, q.offload
		return nil
	case <-d.closed:
		if !d.own.Load() && d.TryRead(p) {
			return nil
		}
		return os.ErrClosed
	}
}

// TryRead is Read, but returns false at once if no packet is queued.
func (d *Device) TryRead(p *packet.Packet) bool {
	select {
	case q := <-d.in:
		p.Data, p.Offload = q.data, q.offload
		return true
	default:
		return false
	}
}

// Write implements tun.Device. It copies parts.
func (d *Device) Write(o packet.Offload, parts [][]byte) error {
	var data []byte
	for _, p := range parts {
		data = append(data, p...)
	}
	select {
	case <-d.closed:
		return os.ErrClosed
	default:
	}
	select {
	case d.out <- frame{data, o}:
	default: // the queue is full: lost
	}
	return nil
}

// Unread returns how many packets that were written here the far end has not
// read.
func (d *Device) Unread() int { return len(d.out) }

// Info implements tun.Device.
func (d *Device) Info() tun.Info { return d.info }

// Close implements tun.Device.
func (d *Device) Close() error {
	d.own.Store(true)
	d.end()
	return nil
}
