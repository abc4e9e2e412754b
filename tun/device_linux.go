package tun

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
	wgtun "golang.zx2c4.com/wireguard/tun"

	"github.com/knockgw/knockgw/packet"
)

// offloads are the tasks that the kernel may leave to us on packets that we
// read. CreateTUN also enables UDP segmentation, which the gateway does not
// support; TUNSETOFFLOAD replaces the whole set.
const offloads = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6

// device is a TUN interface with virtio-net headers. Package wireguard/tun
// opens, names and sizes it; packets are read from and written to the
// descriptor, because the package's Read and Write split super-packets at the
// MTU.
type device struct {
	wg     wgtun.Device
	file   *os.File
	raw    syscall.RawConn
	info   Info
	read   readOp
	buf    []byte // lent by Read
	writes sync.Pool
	closed atomic.Bool
	events sync.WaitGroup
}

// Open creates the TUN interface that o describes, which is down and has neither
// addresses nor routes, or opens an existing one. Errors: ErrNoTUN, ErrBusy,
// fs.ErrPermission (it needs CAP_NET_ADMIN), or those of the kernel.
func Open(o Options) (Device, error) {
	var (
		wg  wgtun.Device
		err error
	)
	if o.Existing || o.FD != 0 {
		wg, err = openExisting(o)
	} else {
		wg, err = wgtun.CreateTUN(o.Name, o.MTU)
	}
	if err != nil {
		return nil, openError(o, err)
	}

	d := &device{wg: wg, file: wg.File(), buf: make([]byte, packet.MaxPacket)}
	d.read.init(d.buf)
	d.writes.New = func() any { w := new(writeOp); w.call = w.do; return w }
	d.events.Go(func() {
		// wireguard/tun blocks on an unread event. Read reports all that
		// matters.
		for range wg.Events() { // drain
		}
	})
	if err := d.configure(); err != nil {
		return nil, errors.Join(fmt.Errorf("TUN device %q: %w", o.Name, err), d.Close())
	}
	return d, nil
}

func (d *device) configure() error {
	name, err := d.wg.Name()
	if err != nil {
		return err
	}
	mtu, err := d.wg.MTU()
	if err != nil {
		return err
	}
	link, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	d.info = Info{Name: name, Index: link.Index, MTU: mtu, Offload: true}
	if d.raw, err = d.file.SyscallConn(); err != nil {
		return err
	}

	// A persistent device keeps the filter of its last user, whose maps are no
	// longer updated. A kernel without filters has none to detach.
	_ = d.AttachFilter(detachFilter)

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

func openError(o Options, err error) error {
	name := o.Name
	switch {
	case o.FD != 0:
		return fmt.Errorf("use the TUN device with descriptor %d: %w", o.FD, err)
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO), cloneDeviceMissing():
		return fmt.Errorf("%w: /dev/net/tun is missing; load the tun module or pass the device into the container", ErrNoTUN)
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w: %q; stop that process or choose another tun.name", ErrBusy, name)
	case o.Existing && errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("open the prepared TUN device %q: %w; it must be this user's: ip tuntap add dev %s mode tun user USER", name, err, name)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("open TUN device %q: %w; run as root or with CAP_NET_ADMIN", name, err)
	default:
		return fmt.Errorf("open TUN device %q: %w", name, err)
	}
}

// cloneDeviceMissing detects the error of wireguard/tun for a missing clone
// device, which wraps nothing.
func cloneDeviceMissing() bool {
	_, err := os.Stat(cloneDevicePath)
	return errors.Is(err, fs.ErrNotExist)
}

// readOp is the readv of Device.Read. System calls on the device never block,
// so neither it nor writeOp notifies the scheduler, which would hand the
// processor of a goroutine in a system call to another after some microseconds
// (syscall.RawSyscall).
type readOp struct {
	header [virtioHeaderSize]byte
	iov    [2]unix.Iovec // the header, the packet
	n      int
	err    syscall.Errno
	call   func(fd uintptr) bool
}

func (r *readOp) init(packet []byte) {
	r.call = r.do
	setIovec(&r.iov[0], r.header[:])
	setIovec(&r.iov[1], packet)
}

// do runs on the descriptor. It returns false to wait until there is a packet.
func (r *readOp) do(fd uintptr) bool {
	for {
		n, _, err := syscall.RawSyscall(syscall.SYS_READV, fd, iovecAddr(&r.iov[0]), uintptr(len(r.iov)))
		r.n, r.err = int(n), err
		if err != syscall.EINTR {
			return err != syscall.EAGAIN
		}
	}
}

// Read implements Device. It blocks in the runtime's poller, so that Close
// wakes it.
func (d *device) Read(p *packet.Packet) error {
	r := &d.read
	for {
		err := d.raw.Read(r.call)
		if err == nil && r.err != 0 {
			err = r.err
		}
		if err != nil {
			if d.closed.Load() {
				return os.ErrClosed // the poller returns an unexported error
			}
			return fmt.Errorf("read TUN device %s: %w", d.info.Name, err)
		}

		size := r.n - virtioHeaderSize
		if size <= 0 {
			continue
		}
		o, ok := decodeVirtio(r.header[:], size)
		if !ok {
			continue
		}
		p.Data = d.buf[:size]
		p.Offload = o
		return nil
	}
}

// writeOp is one writev in flight. It is pooled, together with the function
// value that the runtime calls, so that Write allocates nothing.
type writeOp struct {
	header [virtioHeaderSize]byte
	iov    [MaxParts + 1]unix.Iovec
	n      int
	err    syscall.Errno
	call   func(fd uintptr) bool
}

// do runs on the descriptor. A TUN device that cannot take a packet returns an
// error at once, and the packet is lost, as on any link. Waiting until the
// device is writable would only delay the packets behind it.
func (w *writeOp) do(fd uintptr) bool {
	for {
		_, _, w.err = syscall.RawSyscall(syscall.SYS_WRITEV, fd, iovecAddr(&w.iov[0]), uintptr(w.n))
		if w.err != syscall.EINTR {
			return true
		}
	}
}

// Write implements Device.
func (d *device) Write(o packet.Offload, parts [][]byte) error {
	if len(parts) == 0 || len(parts) > MaxParts || len(parts[0]) == 0 {
		return fmt.Errorf("write TUN device %s: the packet has %d parts", d.info.Name, len(parts))
	}
	w := d.writes.Get().(*writeOp)
	encodeVirtio(w.header[:], o, parts[0][0]>>4)
	w.set(parts)
	err := d.raw.Write(w.call)
	if err == nil && w.err == syscall.EBADFD {
		err = w.err // the interface was deleted
	}
	w.clear()
	d.writes.Put(w)
	if err != nil {
		if d.closed.Load() {
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
	_ = d.AttachFilter(detachFilter) // may fail as in configure; irrelevant if the device is removed
	d.closed.Store(true)
	err := d.wg.Close()
	d.events.Wait()
	return err
}
