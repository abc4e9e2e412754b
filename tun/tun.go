// Package tun moves whole IP packets between the kernel and the gateway.
//
// A Device is a point-to-point layer-3 interface whose far end is this process.
// On Linux every packet carries a virtio-net header in both directions, so one
// read may bring a TCP super-packet of up to 64 KiB with its checksum left to
// us to trust, and one write may hand the kernel a super-packet that it cuts
// into segments; bytes per system call decide what a TUN device can carry.
// On other systems packets are single and their checksums are complete.
//
// A Packet is one such packet and, after Parse, what its headers say. The
// package also owns the interface's routes (Routes), because a protected prefix
// must be black-holed before the device exists and after it is gone.
package tun

import (
	"errors"
	"net"
	"net/netip"
)

// MaxPacket is the largest packet, in bytes, that a Device reads or writes:
// the most that the 16-bit total length of IPv4 can say.
const MaxPacket = 65535

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
	Read(p *Packet) error
	// Write sends one packet, given as the concatenation of parts, at most
	// MaxParts of them. It borrows parts only for the duration of the call.
	// A packet that the kernel refuses is lost, as on any link; an error means
	// that the device is gone.
	Write(o Offload, parts [][]byte) error
	// Info describes the device. It does not change while the device is open.
	Info() Info
	// Close removes the interface and releases what Open took.
	Close() error
}

// A Filterer is a Device that has the kernel ask a program about each packet
// before anybody reads it.
type Filterer interface {
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
	// Offload tells that Write accepts super-packets (Offload.SegmentSize) and
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
	// Prepared: the interface is there, this process's user may use it, and nothing
	// but its packets is ours: neither its size nor its routes. Linux only.
	Prepared bool
	// FD is a descriptor of a prepared interface, which Open takes over unless it fails;
	// 0 is none. Its Name is the kernel's then.
	FD int
}

// Offload is what a packet asks of, or is vouched for by, the kernel: the
// fields of a virtio-net header (VIRTIO 1.2, 5.1.6) that concern TCP.
type Offload struct {
	// NeedsChecksum: the TCP checksum field holds the sum of the pseudo
	// header only; whoever puts the packet on a wire completes it.
	NeedsChecksum bool
	// ChecksumValid: the kernel has verified the transport checksum, or the
	// packet never left this machine. Only set on packets that were read.
	ChecksumValid bool
	// ChecksumStart is where the checksummed part begins, in bytes from the
	// start of the packet: the length of the IP header.
	ChecksumStart uint16
	// SegmentSize is the MSS, in bytes of payload, at which a super-packet is
	// to be cut or was put together; 0 for a single packet.
	SegmentSize uint16
	// HeaderLength is the length of the IP and TCP headers in bytes. Written,
	// never believed when read.
	HeaderLength uint16
}

// Addr is an IP address in one form for both families: 16 bytes, an IPv4
// address as ::ffff:a.b.c.d. It has no pointers and no padding, so that a map
// keyed by it is cheap to look up and invisible to the garbage collector.
type Addr [16]byte

// AddrFrom converts a (without its zone).
func AddrFrom(a netip.Addr) Addr { return a.As16() }

// Netip returns the address in the standard library's form, an IPv4 address unmapped.
func (a Addr) Netip() netip.Addr { return netip.AddrFrom16(a).Unmap() }

// Is4 tells whether a is an IPv4 address.
func (a Addr) Is4() bool { return [12]byte(a[:12]) == v4Prefix }

// v4Prefix is what an IPv4 address looks like in its first 12 bytes (RFC 4291, 2.5.5.2).
var v4Prefix = [12]byte{10: 0xff, 11: 0xff}

func addr4(b []byte) (a Addr) {
	a[10], a[11] = 0xff, 0xff
	copy(a[12:], b[:4])
	return a
}

// A Tuple names one direction of a flow: who sends and to whom.
type Tuple struct {
	Src, Dst         Addr
	SrcPort, DstPort uint16
}

// Reverse returns the tuple of the other direction.
func (t Tuple) Reverse() Tuple {
	return Tuple{Src: t.Dst, Dst: t.Src, SrcPort: t.DstPort, DstPort: t.SrcPort}
}

// Source returns the sender's address and port.
func (t Tuple) Source() netip.AddrPort { return netip.AddrPortFrom(t.Src.Netip(), t.SrcPort) }

// Destination returns the receiver's address and port.
func (t Tuple) Destination() netip.AddrPort { return netip.AddrPortFrom(t.Dst.Netip(), t.DstPort) }

// String formats the tuple as "source > destination".
func (t Tuple) String() string { return t.Source().String() + " > " + t.Destination().String() }
