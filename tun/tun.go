// Package tun moves whole IP packets between the kernel and the gateway.
//
// A Device is a point-to-point layer-3 interface whose far end is this process.
// On Linux every packet carries a virtio-net header in both directions, so one
// read may bring a TCP super-packet of up to 64 KiB with its checksum left to
// us to trust, and one write may hand the kernel a super-packet that it cuts
// into segments; bytes per system call decide what a TUN device can carry.
// On other systems packets are single and their checksums are complete.
//
// Package packet decodes what a Device reads; internal/routing leads packets to it.
package tun

import (
	"errors"
	"net"

	"github.com/knockgw/knockgw/packet"
)

// Errors of opening a device, matched with errors.Is.
var (
	// ErrNoTUN says that this system has no TUN devices to offer.
	ErrNoTUN = errors.New("this system offers no TUN device")
	// ErrBusy says that another process holds the device of that name.
	ErrBusy = errors.New("the TUN device is in use by another process")
)

// A Device is a TUN interface. Read is for one goroutine at a time; Write may
// be called by any number of goroutines at once. Close wakes a waiting Read.
type Device interface {
	// Read waits for the next packet and points p at it. p.Data is borrowed: it
	// is valid until the next Read. After Close it returns os.ErrClosed.
	Read(p *packet.Packet) error
	// Write sends one packet, given as the concatenation of parts, at most
	// MaxParts of them. It borrows parts only for the duration of the call.
	// A packet that the kernel refuses is lost, as on any link; an error means
	// that the device is gone.
	Write(o packet.Offload, parts [][]byte) error
	// Info describes the device. It does not change while the device is open.
	Info() Info
	// Close removes the interface and releases what Open took.
	Close() error
}

// A FilterAttacher is a Device that has the kernel ask a program about each packet
// before anybody reads it.
type FilterAttacher interface {
	// AttachFilter takes the descriptor of a loaded eBPF program of type
	// SOCKET_FILTER, which gets the packet from its IP header on and returns how
	// many bytes of it to keep: 0 drops it. It replaces the one before.
	AttachFilter(fd int) error
}

// MaxParts is how many pieces a written packet may consist of: headers plus
// the chunks of a 64 KiB payload, with room to spare below the kernel's UIO_MAXIOV.
const MaxParts = 64

// Info describes an open Device.
type Info struct {
	Name string // the interface's name, as the kernel gave it
	// Index is the interface's number, which it keeps when it is renamed; 0 where
	// there is no interface, or the system has no such number.
	Index int
	MTU   int // bytes of the largest IP packet, without offload
	// Offload reports whether Write accepts super-packets (Offload.SegmentSize) and
	// packets whose TCP checksum is left to the kernel (Offload.NeedsChecksum).
	Offload bool
}

// Interface returns the interface as it is now: it may have been renamed since the
// device was opened.
func (i Info) Interface() (*net.Interface, error) {
	if i.Index == 0 {
		return net.InterfaceByName(i.Name)
	}
	return net.InterfaceByIndex(i.Index)
}

// Options says which device Open makes, or takes.
type Options struct {
	Name string // interface name; the kernel picks one where the OS wants that
	MTU  int    // bytes
	// Existing: the interface is there, this process's user may use it, and nothing
	// but its packets is ours: neither its size nor its routes. Linux only.
	Existing bool
	// FD is a descriptor of a prepared interface, which Open takes over unless it fails;
	// 0 is none. Its Name is the kernel's then.
	FD int
}
