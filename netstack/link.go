package netstack

import (
	"sync"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/tun"
)

// link is a gVisor link endpoint on the device. Each interface of the stack has
// one.
type link struct {
	s          *Stack
	mtu        uint32
	offload    bool
	dispatcher stack.NetworkDispatcher // set by Attach, before the first packet
	writes     sync.Pool               // of *writeBuf
}

var (
	_ stack.LinkEndpoint = (*link)(nil)
	_ stack.GSOEndpoint  = (*link)(nil)
)

func newLink(s *Stack) *link {
	info := s.opts.Device.Info()
	l := &link{s: s, mtu: uint32(info.MTU), offload: info.Offload} // an MTU is below 65536
	l.writes.New = func() any { return new(writeBuf) }
	return l
}

// receive passes an admitted segment to the stack. It copies the payload into a
// view of its own and the headers into another, small one: if they share a
// view, gVisor clones all of it to parse the header.
func (l *link) receive(p *packet.Packet, d Decision) {
	if l.dispatcher == nil || p.DropReason != packet.NotDropped || p.Proto != packet.TCP {
		return // the gate handles ICMP errors: the stack would never raise a path MTU again
	}
	var head *buffer.View
	if d.AddTimestamp {
		head = buffer.NewViewWithData(withTimestamp(p, d.Timestamp))
	} else {
		head = buffer.NewViewWithData(p.Data[:p.Payload])
	}
	if p.Flags&packet.SYN != 0 {
		raiseMSS(head.AsSlice()[p.L4+header.TCPMinimumSize:])
	}

	b := buffer.MakeWithView(head)
	if p.Payload < len(p.Data) {
		v := buffer.NewViewWithData(p.Data[p.Payload:])
		if err := b.Append(v); err != nil {
			v.Release()
			b.Release()
			return // larger than a Buffer; impossible for a packet
		}
	}

	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: b})
	l.dispatcher.DeliverNetworkPacket(networkProtocol(p.Tuple.Src), pkt)
	pkt.DecRef()
}

// writeBuf is the working memory of one write.
type writeBuf struct {
	packet packet.Packet
	parts  [tun.MaxParts][]byte
	n      int    // parts in use
	tail   []byte // a copy of the last part and of those in excess of MaxParts

	header, payload []byte // of a packet that is segmented here
}

// add appends b, which is borrowed. gVisor makes one packet of all the small
// writes that wait for the client's window, with a view for each.
func (w *writeBuf) add(b []byte) {
	const last = tun.MaxParts - 1
	switch {
	case w.n < len(w.parts):
		w.parts[w.n] = b
		w.n++
		return
	case len(w.tail) == 0:
		w.tail = append(w.tail, w.parts[last]...)
	}
	w.tail = append(w.tail, b...)
	w.parts[last] = w.tail
}

// reset removes the parts.
func (w *writeBuf) reset() {
	clear(w.parts[:w.n])
	w.packet.Data = nil
	w.n, w.tail = 0, w.tail[:0]
}

// WritePackets implements stack.LinkWriter. Packets that the egress gate
// rejects, or that the device loses, are lost without an error, as on any link.
func (l *link) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	w := l.writes.Get().(*writeBuf)
	n := 0
	for _, pkt := range pkts.AsSlice() {
		if err := l.write(w, pkt); err != nil {
			l.writes.Put(w)
			return n, &tcpip.ErrClosedForSend{}
		}
		n++
	}
	l.writes.Put(w)
	return n, nil
}

func (l *link) write(w *writeBuf, pkt *stack.PacketBuffer) error {
	defer w.reset()
	views, skip := pkt.AsViewList()
	for v := views.Front(); v != nil; v = v.Next() {
		b := v.AsSlice()
		if skip >= len(b) {
			skip -= len(b)
			continue
		}
		w.add(b[skip:])
		skip = 0
	}
	if w.n == 0 || !w.packet.DecodeTCP(w.parts[0]) {
		return nil // ICMP or other packets of the stack itself, which must not leave
	}

	size := pkt.Size() - w.packet.Payload
	var o packet.Offload
	if g := pkt.GSOOptions; g.Type == stack.GSOTCPv4 || g.Type == stack.GSOTCPv6 {
		o.NeedsChecksum = g.NeedsCsum
		o.ChecksumStart = g.L3HdrLen
		if size > int(g.MSS) {
			o.SegmentSize = g.MSS
		}
	}

	w.packet.Offload = o
	if !l.s.opts.Egress(&w.packet, size) {
		return nil
	}
	if o.SegmentSize = w.packet.Offload.SegmentSize; o.SegmentSize > 0 {
		if !o.NeedsChecksum {
			return l.writeSegments(w, size, int(o.SegmentSize))
		}
		o.HeaderLength = uint16(w.packet.Payload) // two headers: at most 40+60
	}
	return l.s.opts.Device.Write(o, w.parts[:w.n])
}

// maxGSO is the size of the largest super-packet in bytes. For gVisor it
// includes the headers, whose length fields have 16 bits.
const maxGSO = packet.MaxPacket

// GSOMaxSize implements stack.GSOEndpoint.
func (l *link) GSOMaxSize() uint32 { return maxGSO }

// SupportedGSO implements stack.GSOEndpoint: the kernel segments super-packets
// if the device supports it, otherwise gVisor does.
func (l *link) SupportedGSO() stack.SupportedGSO {
	if l.offload {
		return stack.HostGSOSupported
	}
	return stack.GVisorGSOSupported
}

// Capabilities implements stack.LinkEndpoint. Packet.Parse has verified the
// checksums of incoming packets. Those of outgoing packets are not offloaded by
// this flag, which would leave SYN-ACKs without one; packets with GSO options
// leave theirs to the kernel in any case.
func (l *link) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload
}

// Attach implements stack.LinkEndpoint. CreateNIC calls it before the first
// packet, and the stack's teardown after the last.
func (l *link) Attach(d stack.NetworkDispatcher) {
	if d != nil {
		l.dispatcher = d
	}
}

// IsAttached implements stack.LinkEndpoint.
func (l *link) IsAttached() bool { return l.dispatcher != nil }

// MTU implements stack.LinkEndpoint.
func (l *link) MTU() uint32 { return l.mtu }

// SetMTU implements stack.LinkEndpoint. The MTU of the device is fixed.
func (l *link) SetMTU(uint32) {}

// MaxHeaderLength implements stack.LinkEndpoint: no link header.
func (l *link) MaxHeaderLength() uint16 { return 0 }

// LinkAddress implements stack.LinkEndpoint: none.
func (l *link) LinkAddress() tcpip.LinkAddress { return "" }

// SetLinkAddress implements stack.LinkEndpoint.
func (l *link) SetLinkAddress(tcpip.LinkAddress) {}

// Wait implements stack.LinkEndpoint: the link has no goroutines.
func (l *link) Wait() {}

// ARPHardwareType implements stack.LinkEndpoint.
func (l *link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }

// AddHeader implements stack.LinkEndpoint.
func (l *link) AddHeader(*stack.PacketBuffer) {}

// ParseHeader implements stack.LinkEndpoint.
func (l *link) ParseHeader(*stack.PacketBuffer) bool { return true }

// Close implements stack.LinkEndpoint. Stack.Run closes the device.
func (l *link) Close() {}

// SetOnCloseAction implements stack.LinkEndpoint.
func (l *link) SetOnCloseAction(func()) {}
