package packet

import "net/netip"

// A Tuple identifies one direction of a flow by its source and destination.
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
