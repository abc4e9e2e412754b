package tun

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	wgtun "golang.zx2c4.com/wireguard/tun"
)

// offloads are the tasks that the kernel may leave to us on packets that we
// read. CreateTUN asks for UDP segmentation as well, which no part of the
// gateway understands; TUNSETOFFLOAD replaces the whole set.
const offloads = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6

// device is a TUN interface with virtio-net headers. wireguard's package opens,
// names and sizes it; packets go straight to and from the descriptor, because
// its Read and Write cut super-packets to MTU size.
type device struct {
	wg     wgtun.Device
	file   *os.File
	raw    syscall.RawConn
	info   Info
	buf    []byte // what Read lends
	writes sync.Pool
	events sync.WaitGroup
}

// Open makes the TUN interface that o describes. The interface is down and has
// neither addresses nor routes; see Routes. Errors: ErrNoTUN, ErrBusy,
// fs.ErrPermission (needs CAP_NET_ADMIN), or what the kernel said.
func Open(o Options) (Device, error) {
	wg, err := wgtun.CreateTUN(o.Name, o.MTU)
	if err != nil {
		return nil, openError(o.Name, err)
	}
	d := &device{wg: wg, file: wg.File(), buf: make([]byte, virtioHeaderSize+MaxPacket)}
	d.writes.New = func() any { return new(write) }
	d.events.Go(func() {
		// wireguard blocks on an unread event; we learn what matters from Read.
		for range wg.Events() { // drained on purpose
		}
	})
	if err := d.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("TUN device %q: %w", o.Name, err), d.Close())
	}
	return d, nil
}

func (d *device) prepare() error {
	name, err := d.wg.Name()
	if err != nil {
		return err
	}
	mtu, err := d.wg.MTU()
	if err != nil {
		return err
	}
	d.info = Info{Name: name, MTU: mtu, Offload: true}
	if d.raw, err = d.file.SyscallConn(); err != nil {
		return err
	}
	var ioctl error
	if err := d.raw.Control(func(fd uintptr) {
		ioctl = unix.IoctlSetInt(int(fd), unix.TUNSETOFFLOAD, offloads)
	}); err != nil {
		return err
	}
	if ioctl != nil {
		return fmt.Errorf("set offloads: %w", ioctl)
	}
	return nil
}

func openError(name string, err error) error {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO), noCloneDevice():
		return fmt.Errorf("%w: /dev/net/tun is missing; load the tun module or pass the device into the container", ErrNoTUN)
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w: %q; stop that process or choose another tun.name", ErrBusy, name)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("open TUN device %q: %w; run as root or with CAP_NET_ADMIN", name, err)
	default:
		return fmt.Errorf("open TUN device %q: %w", name, err)
	}
}

// noCloneDevice covers wireguard's own error for a missing device, which wraps nothing.
func noCloneDevice() bool {
	_, err := os.Stat("/dev/net/tun")
	return errors.Is(err, fs.ErrNotExist)
}

// Read implements Device. It waits in the runtime's poller, so that Close wakes it.
func (d *device) Read(p *Packet) error {
	for {
		n, err := d.file.Read(d.buf)
		if err != nil {
			if errors.Is(err, os.ErrClosed) {
				return os.ErrClosed
			}
			return fmt.Errorf("read TUN device %s: %w", d.info.Name, err)
		}
		if n <= virtioHeaderSize {
			continue
		}
		o, ok := decodeVirtio(d.buf, n-virtioHeaderSize)
		if !ok {
			continue
		}
		p.Data = d.buf[virtioHeaderSize:n]
		p.Offload = o
		return nil
	}
}

// write is one writev in flight, kept in a pool with the function that the
// runtime calls, so that sending allocates nothing.
type write struct {
	header [virtioHeaderSize]byte
	iov    [MaxParts + 1]unix.Iovec
	n      int
	err    syscall.Errno
	call   func(fd uintptr) bool
}

// do is what runs on the descriptor. A TUN device that cannot take a packet
// says so at once, and the packet is lost as on any link; waiting for it to
// become writable would only delay those behind it.
func (w *write) do(fd uintptr) bool {
	for {
		_, _, w.err = syscall.Syscall(syscall.SYS_WRITEV, fd, w.base(), uintptr(w.n))
		if w.err != syscall.EINTR {
			return true
		}
	}
}

// Write implements Device.
func (d *device) Write(o Offload, parts [][]byte) error {
	if len(parts) == 0 || len(parts) > MaxParts || len(parts[0]) == 0 {
		return fmt.Errorf("write TUN device %s: a packet of %d parts", d.info.Name, len(parts))
	}
	w := d.writes.Get().(*write)
	if w.call == nil {
		w.call = w.do
	}
	encodeVirtio(w.header[:], o, parts[0][0]>>4)
	w.set(parts)
	err := d.raw.Write(w.call)
	if err == nil && w.err == syscall.EBADFD {
		err = w.err // the interface was deleted under us
	}
	w.clear()
	d.writes.Put(w)
	if err != nil {
		if errors.Is(err, os.ErrClosed) {
			return os.ErrClosed
		}
		return fmt.Errorf("write TUN device %s: %w", d.info.Name, err)
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
