// Package tun moves whole IP packets between the kernel and the gateway.
//
// A Device is a point-to-point layer-3 interface whose far end is this process.
// Open creates one, without addresses or routes, or takes over one that exists.
//
// On Linux every packet carries a virtio-net header in both directions. One
// read may return a TCP super-packet of up to 64 KiB whose checksum the kernel
// vouches for, and one write may pass the kernel a super-packet to segment. The
// number of bytes per system call determines the throughput of a TUN device. On
// other systems packets are single and their checksums are complete.
//
// Package packet decodes the packets that a Device reads.
//
// # Compatibility
//
// The package is part of the module's API: from version 1.0.0 on, programs that
// use its exported names keep compiling and working within a major version.
package tun

import (
	"errors"
	"net"

	"github.com/knockgw/knockgw/packet"
)

// Errors of opening a device, matched with errors.Is.
var (
	// ErrNoTUN means that this system has no TUN devices.
	ErrNoTUN = errors.New("this system has no TUN device")
	// ErrBusy means that another process uses the device of that name.
	ErrBusy = errors.New("the TUN device is in use by another process")
)

// A Device is a TUN interface. Read may be called by one goroutine at a time,
// Write by any number of goroutines. Close wakes a blocked Read.
type Device interface {
	// Read waits for the next packet and points p at it. p.Data is borrowed: it
	// is valid until the next Read. After Close it returns os.ErrClosed.
	Read(p *packet.Packet) error
	// Write sends one packet, the concatenation of at most MaxParts parts. It
	// borrows parts for the duration of the call. A packet that the kernel
	// rejects is lost, as on any link; an error means that the device is gone.
	Write(o packet.Offload, parts [][]byte) error
	// Info describes the device. The result does not change while it is open.
	Info() Info
	// Close removes the interface, unless it existed before Open, and releases
	// its resources.
	Close() error
}

// A FilterAttacher is a Device that runs an eBPF program in the kernel on each
// packet before it is queued for Read.
type FilterAttacher interface {
	// AttachFilter attaches the loaded eBPF program with the descriptor fd, in
	// place of the one before. Its type is SOCKET_FILTER; its input is the
	// packet from the IP header, and its result the number of bytes of it to
	// keep: 0 drops the packet.
	AttachFilter(fd int) error
}

// MaxParts is the largest number of parts in a call of Write: headers and the
// chunks of a 64 KiB payload, well below the kernel's UIO_MAXIOV of 1024.
const MaxParts = 64

// Info describes an open Device.
type Info struct {
	Name string // of the interface, as assigned by the kernel
	// Index is the index of the interface, which does not change when it is
	// renamed; 0 if there is no interface, or if the system has no indexes.
	Index int
	MTU   int // bytes of the largest IP packet, without offload
	// Offload reports whether Write accepts super-packets (Offload.SegmentSize)
	// and packets whose TCP checksum is left to the kernel
	// (Offload.NeedsChecksum).
	Offload bool
}

// Interface returns the current state of the interface, which may have been
// renamed since the device was opened.
func (i Info) Interface() (*net.Interface, error) {
	if i.Index == 0 {
		return net.InterfaceByName(i.Name)
	}
	return net.InterfaceByIndex(i.Index)
}

// Options describe the device that Open creates or takes over.
type Options struct {
	Name string // of the interface; some systems choose their own
	MTU  int    // in bytes
	// Existing reports that the interface exists and that this user may open it.
	// Its packets are read and written, but its settings and routes belong to
	// whatever created it. Linux only.
	Existing bool
	// FD is a descriptor of an existing interface, or 0. Open takes ownership
	// of it unless it fails. Name is ignored.
	FD int
}
