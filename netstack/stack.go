// Package netstack is gVisor's TCP/IP stack between a TUN device and the flows.
//
// It reads the device, asks whether a packet may enter, and makes a Request of
// every TCP connection that begins; on the way back it asks whether a packet
// may leave. It has no policy of its own and no addresses of its own: whatever
// it is handed is for it.
//
// There are two interfaces in the stack, both on the one device. Flows of
// hidden services enter through the first, where a forwarder lets us decide
// before the handshake whether to answer. Flows of open services, whose
// handshakes strangers may begin, enter through the second, where listeners
// answer a flood with SYN cookies. A flood there touches nothing on the first.
package netstack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/tun"
)

const (
	hiddenNIC tcpip.NICID = 1
	openNIC   tcpip.NICID = 2
)

// A Decision is what to do with a packet from the device.
type Decision struct {
	Pass        bool // into the stack; otherwise it is dropped
	Open        bool // it belongs to a flow of an open service
	TupleReused bool // a SYN whose tuple an endpoint in TIME_WAIT may still hold
	Handling
}

// Handling is what the stack does with a packet that passes besides taking it. It
// is apart from Decision because the compiler keeps structs of up to four fields
// in registers, and only those.
type Handling struct {
	// Reset: it is answered with a reset instead; its flow is over.
	Reset bool
	// AddTimestamp: the stack sees it with Timestamp, and no echo, in a TCP option.
	AddTimestamp bool
	Timestamp    uint32
}

// Options is what a Stack is made of. All fields are required.
type Options struct {
	Device tun.Device
	// Admit judges a packet that was read, after its Parse. It is called by one
	// goroutine and must not keep the packet.
	Admit func(p *packet.Packet) Decision
	// Egress says whether a packet that the stack built may leave; size is its
	// payload in bytes. Only DecodeTCP has been called on it, and succeeded; its
	// Data, borrowed for the call, is the beginning of the packet with its headers.
	// It may set or lower Offload.SegmentSize, to which the payload is cut then.
	Egress func(p *packet.Packet, size int) bool
	// Handle owns a request, on a goroutine of its own, until it returns.
	Handle func(r *Request)
	// OpenPorts are the ports of open services; see SetOpenPorts.
	OpenPorts []uint16

	clock tcpip.Clock // of tests; nil is the system's
}

// A Stack is a running TCP/IP stack on a device.
type Stack struct {
	opts       Options
	stack      *stack.Stack
	links      [openNIC + 1]*link // by NIC
	open       openPorts
	handshakes atomic.Int64  // handshakes with hidden services that are under way
	ticks      atomic.Uint64 // of the packet reader: odd while it is with a packet
	statsCache statsCache    // of all endpoints, now and then

	mu       sync.RWMutex
	closing  bool                  // no packet of Inject and no request is taken any more
	requests map[*Request]struct{} // being handled
	handlers sync.WaitGroup
}

// New makes the stack. Nothing moves until Run.
func New(o Options) (*Stack, error) {
	s := &Stack{opts: o, requests: make(map[*Request]struct{})}
	s.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol},
		Clock:              o.clock,
	})
	if err := s.build(); err != nil {
		s.stack.Destroy()
		return nil, err
	}
	return s, nil
}

func (s *Stack) build() error {
	if err := applyOptions(s.stack); err != nil {
		return err
	}
	// Before CreateNIC: gVisor has no lock around the handler.
	forwarder := tcp.NewForwarder(s.stack, defaultRecvBuf, maxRequests, func(r *tcp.ForwarderRequest) {
		request := &Request{Tuple: tuple(r.ID()), forwarder: r, handshakes: &s.handshakes}
		s.handshakes.Add(1)
		if !s.track(request) {
			request.Drop()
			return
		}
		defer s.untrack(request)
		s.opts.Handle(request)
	})
	s.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, func(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
		forwarder.HandlePacket(id, pkt)
		return true // always: false has the stack answer strays with a reset
	})
	for nic := hiddenNIC; nic <= openNIC; nic++ {
		l := newLink(s)
		if err := s.stack.CreateNIC(nic, l); err != nil {
			return fmt.Errorf("netstack: create interface: %s", err)
		}
		// Every address is ours, as destination and as source: the gate has
		// decided, and per-flow addresses would only be bookkeeping.
		if err := s.stack.SetPromiscuousMode(nic, true); err != nil {
			return fmt.Errorf("netstack: promiscuous mode: %s", err)
		}
		if err := s.stack.SetSpoofing(nic, true); err != nil {
			return fmt.Errorf("netstack: spoofing: %s", err)
		}
		s.links[nic] = l
	}
	s.stack.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: hiddenNIC},
		{Destination: header.IPv6EmptySubnet, NIC: hiddenNIC},
		{Destination: header.IPv4EmptySubnet, NIC: openNIC},
		{Destination: header.IPv6EmptySubnet, NIC: openNIC},
	})
	return s.SetOpenPorts(s.opts.OpenPorts)
}

// Run moves packets until ctx ends or the device fails, and returns when all
// handlers have. It resets the connections that are left, so that handlers which
// use them come to an end; whoever ends ctx sees to it that the others do. It
// closes the device and destroys the stack.
func (s *Stack) Run(ctx context.Context) error {
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		s.shutdown() // while what it sends can still leave
		// Wakes the reader; the error is reported by Close below.
		_ = s.opts.Device.Close() // closing twice is harmless
	})
	s.open.run()
	err := s.read()
	if errors.Is(err, os.ErrClosed) && ctx.Err() != nil {
		err = nil
	}
	if stop() {
		s.shutdown()
	} else {
		<-stopped
	}
	s.open.close()
	s.handlers.Wait()
	s.stack.Destroy()
	if cerr := s.opts.Device.Close(); cerr != nil && !errors.Is(cerr, os.ErrClosed) {
		err = errors.Join(err, fmt.Errorf("close TUN device: %w", cerr))
	}
	return err
}

// track reports whether r may be handled. Its handler is waited for then, until end.
// gVisor starts the goroutine of a request by itself, so one may come to life
// after Run has begun to wait for those it knows of.
func (s *Stack) track(r *Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.requests[r] = struct{}{}
	s.handlers.Add(1)
	return true
}

// untrack ends what the handler of r has not ended.
func (s *Stack) untrack(r *Request) {
	r.Drop()
	s.mu.Lock()
	delete(s.requests, r)
	s.mu.Unlock()
	s.handlers.Done()
}

// shutdown lets nothing begin any more, gives up the handshakes that are under way
// and resets all connections.
func (s *Stack) shutdown() {
	s.mu.Lock()
	s.closing = true
	requests := slices.Collect(maps.Keys(s.requests))
	s.mu.Unlock()
	for _, r := range requests {
		r.abandon(true)
	}
	for _, e := range s.stack.RegisteredEndpoints() {
		e.Abort()
	}
}

// read is the packet path: device, Parse, gate, stack.
func (s *Stack) read() error {
	var p packet.Packet
	for {
		if err := s.opts.Device.Read(&p); err != nil {
			return err
		}
		s.ticks.Add(1)
		p.Parse()
		if d := s.opts.Admit(&p); d.Pass {
			s.deliver(&p, d)
		}
		s.ticks.Add(1)
	}
}

// Ticks counts how often the packet reader has taken up a packet, and how often it
// was done with one. Odd, and the same as a while ago: it is stuck.
func (s *Stack) Ticks() uint64 { return s.ticks.Load() }

// Inject puts an admitted packet, which it borrows for the call, into the
// stack. It is safe to call from any goroutine at any time: before Run has begun
// to end, the packet is taken, and dropped after that.
func (s *Stack) Inject(p *packet.Packet, d Decision) {
	s.mu.RLock() // so that the stack is not destroyed meanwhile
	defer s.mu.RUnlock()
	if !s.closing {
		s.deliver(p, d)
	}
}

// deliver is Inject for the reader, which is gone before the stack is.
func (s *Stack) deliver(p *packet.Packet, d Decision) {
	nic := hiddenNIC
	if d.Open {
		nic = openNIC
	}
	if d.Reset {
		s.links[nic].sendReset(p)
		return
	}
	if d.TupleReused {
		s.abortTimeWait(nic, p.Tuple)
	}
	s.links[nic].receive(p, d)
}

// abortTimeWait aborts an endpoint in TIME_WAIT, so that a SYN of the same tuple does
// not vanish in it: gVisor would look for a listener to hand the SYN to, and a
// forwarder is none. The egress gate holds the reset back that this may send.
func (s *Stack) abortTimeWait(nic tcpip.NICID, t packet.Tuple) {
	if ep := s.findEndpoint(nic, t); ep != nil && ep.EndpointState() == tcp.StateTimeWait {
		ep.Abort()
	}
}

// findEndpoint returns the endpoint of a flow that came in through nic, nil if there is none.
func (s *Stack) findEndpoint(nic tcpip.NICID, t packet.Tuple) *tcp.Endpoint {
	id := stack.TransportEndpointID{
		LocalPort: t.DstPort, LocalAddress: toAddress(t.Dst),
		RemotePort: t.SrcPort, RemoteAddress: toAddress(t.Src),
	}
	found := s.stack.FindTransportEndpoint(networkProtocol(t.Src), tcp.ProtocolNumber, id, nic)
	ep, ok := found.(*tcp.Endpoint)
	if !ok || ep.EndpointState() == tcp.StateListen {
		return nil
	}
	return ep
}

// CloseState is how far the endpoint of a flow is with closing.
type CloseState uint8

// The stages of closing.
const (
	Closed   CloseState = iota // there is no endpoint
	TimeWait                   // it only answers late segments
	Closing                    // it has something to send, or waits for its peer
)

// CloseState tells how far a flow's endpoint is after its Conn was closed.
func (s *Stack) CloseState(t packet.Tuple) CloseState {
	ep := s.findEndpoint(hiddenNIC, t)
	if ep == nil {
		ep = s.findEndpoint(openNIC, t)
	}
	switch {
	case ep == nil:
		return Closed
	case ep.EndpointState() == tcp.StateTimeWait:
		return TimeWait
	default:
		return Closing
	}
}

// Abort ends the endpoints of a flow with a reset, whatever they have to send
// still. Whether that reaches the client is for the egress gate to say.
func (s *Stack) Abort(t packet.Tuple) {
	s.mu.RLock() // so that the stack is not destroyed meanwhile
	defer s.mu.RUnlock()
	if s.closing {
		return
	}
	for nic := hiddenNIC; nic <= openNIC; nic++ {
		if ep := s.findEndpoint(nic, t); ep != nil {
			ep.Abort()
		}
	}
}

// A Counter is one of the stack's own.
type Counter struct {
	Name  string // a word or two with underscores, fit for a metric's label
	Count uint64
}

// Counters returns what the stack counts about TCP.
func (s *Stack) Counters() []Counter {
	t := s.stack.Stats().TCP
	return []Counter{
		{"segments_received", t.ValidSegmentsReceived.Value()},
		{"segments_invalid", t.InvalidSegmentsReceived.Value()},
		{"segments_sent", t.SegmentsSent.Value()},
		{"segment_send_errors", t.SegmentSendErrors.Value()},
		{"retransmits", t.Retransmits.Value()},
		{"fast_recoveries", t.FastRecovery.Value()},
		{"timeouts", t.Timeouts.Value()},
		{"handshakes", t.PassiveConnectionOpenings.Value()},
		{"handshakes_failed", t.FailedConnectionAttempts.Value()},
		{"established_resets", t.EstablishedResets.Value()},
		{"established_timed_out", t.EstablishedTimedout.Value()},
		{"resets_sent", t.ResetsSent.Value()},
		{"resets_received", t.ResetsReceived.Value()},
		{"syn_cookies_sent", t.ListenOverflowSynCookieSent.Value()},
		{"syn_cookies_received", t.ListenOverflowSynCookieRcvd.Value()},
		{"syns_dropped", t.ListenOverflowSynDrop.Value()},
	}
}

// Retransmits returns how many TCP segments the stack has sent again.
func (s *Stack) Retransmits() uint64 { return s.stack.Stats().TCP.Retransmits.Value() }

// toAddress converts to gVisor's form, which knows no IPv4-mapped addresses.
func toAddress(a packet.Addr) tcpip.Address {
	if a.Is4() {
		return tcpip.AddrFrom4([4]byte(a[12:]))
	}
	return tcpip.AddrFrom16(a)
}

func fromAddress(a tcpip.Address) packet.Addr {
	if a.Len() == header.IPv4AddressSize {
		b := a.As4()
		return packet.Addr{10: 0xff, 11: 0xff, 12: b[0], 13: b[1], 14: b[2], 15: b[3]}
	}
	return a.As16()
}

func networkProtocol(a packet.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}
