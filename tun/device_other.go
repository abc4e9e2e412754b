//go:build !linux

package tun

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	wgtun "golang.zx2c4.com/wireguard/tun"

	"github.com/knockgw/knockgw/packet"
)

// headroom is the space that a device of wireguard/tun may need before a packet,
// for the 4-byte address family on BSD.
const headroom = 4

// device adapts wireguard's portable TUN device: single packets whose
// checksums are complete.
type device struct {
	wg     wgtun.Device
	info   Info
	bufs   [][]byte
	sizes  []int
	next   int // packets of the last batch that Read has returned
	count  int // packets in the last batch
	writes sync.Pool
	events sync.WaitGroup
}

// Open creates the TUN interface that o describes. Errors: ErrNoTUN,
// fs.ErrPermission, errors.ErrUnsupported for an existing interface, or those of
// the system.
func Open(o Options) (Device, error) {
	if o.Existing || o.FD != 0 {
		return nil, fmt.Errorf("open a prepared TUN device: %w", errors.ErrUnsupported)
	}
	wg, err := wgtun.CreateTUN(o.Name, o.MTU)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("open TUN device %q: %w; run as administrator", o.Name, err)
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: %w", ErrNoTUN, err)
	case err != nil:
		return nil, fmt.Errorf("open TUN device %q: %w", o.Name, err)
	}

	d := &device{wg: wg}
	d.writes.New = func() any { b := make([]byte, headroom+packet.MaxPacket); return &b }
	for range wg.BatchSize() {
		d.bufs = append(d.bufs, make([]byte, headroom+packet.MaxPacket))
		d.sizes = append(d.sizes, 0)
	}
	d.events.Go(func() {
		for range wg.Events() { //nolint:revive // drain
		}
	})
	if d.info.Name, err = wg.Name(); err == nil {
		d.info.MTU, err = wg.MTU()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("TUN device %q: %w", o.Name, err), d.Close())
	}
	return d, nil
}

// Read implements Device.
func (d *device) Read(p *packet.Packet) error {
	for d.next == d.count {
		n, err := d.wg.Read(d.bufs, d.sizes, headroom)
		if errors.Is(err, os.ErrClosed) {
			return os.ErrClosed
		}
		if err != nil {
			return fmt.Errorf("read TUN device %s: %w", d.info.Name, err)
		}
		d.next, d.count = 0, n
	}
	p.Data = d.bufs[d.next][headroom : headroom+d.sizes[d.next]]
	p.Offload = packet.Offload{}
	d.next++
	return nil
}

// Write implements Device.
func (d *device) Write(_ packet.Offload, parts [][]byte) error {
	b := d.writes.Get().(*[]byte)
	defer d.writes.Put(b)
	n := headroom
	for _, p := range parts {
		n += copy((*b)[n:], p)
	}
	if _, err := d.wg.Write([][]byte{(*b)[:n]}, headroom); errors.Is(err, os.ErrClosed) {
		return os.ErrClosed
	}
	return nil
}

// Info implements Device.
func (d *device) Info() Info { return d.info }

// Close implements Device.
func (d *device) Close() error {
	err := d.wg.Close()
	d.events.Wait()
	return err
}
