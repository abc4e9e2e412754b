// Package netstack runs gVisor's TCP/IP stack between a TUN device and the
// flows.
//
// It reads packets from the device, asks whether they may enter, and makes a
// Request of each new TCP connection; on the way back it asks whether a packet
// may leave. It has no policy and no addresses of its own: it accepts every
// destination.
//
// The stack has two interfaces, both on the one device. Flows of hidden
// services enter through the first, where a forwarder permits deciding before
// the handshake whether to answer. Flows of open services, whose handshakes
// unauthorized hosts may start, enter through the second, where listeners
// answer a flood with SYN cookies. A flood there does not affect the first.
//
// The package is internal to the gateway and makes no compatibility promise.
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

// A Decision is the verdict on a packet from the device.
type Decision struct {
	Pass        bool // into the stack; otherwise drop it
	Open        bool // it belongs to a flow of an open service
	TupleReused bool // a SYN whose tuple an endpoint in TIME_WAIT may still hold
	Handling
}

// Handling is how the stack treats a packet that passes. It is separate from
// Decision because the compiler keeps only structs of up to four fields in
// registers.
type Handling struct {
	// Reset answers the packet with a reset instead: its flow has ended.
	Reset bool
	// AddTimestamp adds a TCP Timestamps option with the value Timestamp, which
	// echoes nothing, before the stack sees the packet.
	AddTimestamp bool
	Timestamp    uint32
}

// Options configure a Stack. All fields are required.
type Options struct {
	Device tun.Device
	// Admit decides about a packet that was read, after its Parse. It is called
	// by one goroutine and must not retain the packet.
	Admit func(p *packet.Packet) Decision
	// Egress reports whether a packet that the stack built may leave. size is
	// the size of its payload in bytes. The packet was decoded by DecodeTCP
	// only; its Data, borrowed for the call, begins with the headers and may
	// lack payload. Egress may set or lower Offload.SegmentSize, at which the
	// payload is then segmented.
	Egress func(p *packet.Packet, size int) bool
	// Handle owns a request until it returns. It runs in its own goroutine.
	Handle func(r *Request)
	// OpenPorts are the ports of open services; see SetOpenPorts.
	OpenPorts []uint16

	clock tcpip.Clock // for tests; nil means the system's
}

// A Stack is a running TCP/IP stack on a device.
type Stack struct {
	opts       Options
	stack      *stack.Stack
	links      [openNIC + 1]*link // by NIC
	open       openPorts
	handshakes atomic.Int64  // in progress with hidden services
	ticks      atomic.Uint64 // of the packet reader: odd while it handles a packet
	statsCache statsCache

	mu       sync.RWMutex
	closing  bool                  // Inject and track reject everything
	requests map[*Request]struct{} // being handled
	handlers sync.WaitGroup
}

// New returns a Stack. It moves no packets until Run.
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
		return true // always: on false the stack would answer stray segments with a reset
	})

	for nic := hiddenNIC; nic <= openNIC; nic++ {
		l := newLink(s)
		if err := s.stack.CreateNIC(nic, l); err != nil {
			return fmt.Errorf("netstack: create interface: %s", err)
		}
		// Accept and send from every address: the gate has decided, and adding
		// an address for each flow would gain nothing.
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

// Run moves packets until ctx ends or the device fails, and returns once all
// handlers have returned. It resets the remaining connections, so that handlers
// that use them return; the caller has to stop other handlers when ctx ends.
// Run closes the device and destroys the stack.
func (s *Stack) Run(ctx context.Context) error {
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		s.shutdown() // while its packets can still leave
		// Wake the reader. The call of Close below reports the error.
		_ = s.opts.Device.Close() // may be called twice
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

// track reports whether r may be handled. If so, Run waits for its handler
// until untrack. gVisor starts the goroutine of a request itself, so one may
// start after Run has begun to wait for the others.
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

// untrack drops r unless its handler has ended it.
func (s *Stack) untrack(r *Request) {
	r.Drop()
	s.mu.Lock()
	delete(s.requests, r)
	s.mu.Unlock()
	s.handlers.Done()
}

// shutdown rejects new requests, abandons the handshakes in progress and resets
// all connections.
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

// Ticks returns a counter that the packet reader increments before and after it
// handles a packet. If it is odd and does not change, the reader has stalled.
func (s *Stack) Ticks() uint64 { return s.ticks.Load() }

// Inject passes an admitted packet, which it borrows for the call, to the
// stack. It may be called from any goroutine at any time. Once Run has begun to
// return, it drops the packet.
func (s *Stack) Inject(p *packet.Packet, d Decision) {
	s.mu.RLock() // the stack must not be destroyed during the call
	defer s.mu.RUnlock()
	if !s.closing {
		s.deliver(p, d)
	}
}

// deliver is Inject for the reader, which returns before the stack is destroyed.
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

// abortTimeWait aborts an endpoint in TIME_WAIT, so that it does not swallow a
// SYN of the same tuple: gVisor would look for a listener to pass the SYN to,
// and a forwarder is not one. The egress gate drops the reset that this may
// send.
func (s *Stack) abortTimeWait(nic tcpip.NICID, t packet.Tuple) {
	if ep := s.findEndpoint(nic, t); ep != nil && ep.EndpointState() == tcp.StateTimeWait {
		ep.Abort()
	}
}

// findEndpoint returns the endpoint of a flow that entered through nic, or nil.
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

// A CloseState is the progress of closing an endpoint.
type CloseState uint8

// The states of closing.
const (
	Closed   CloseState = iota // there is no endpoint
	TimeWait                   // it only answers late segments
	Closing                    // it has data or a FIN to send, or waits for its peer
)

// CloseState returns the state of a flow's endpoint after its Conn was closed.
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

// Abort resets the endpoints of a flow and discards what they have to send. The
// egress gate decides whether the reset reaches the client.
func (s *Stack) Abort(t packet.Tuple) {
	s.mu.RLock() // the stack must not be destroyed during the call
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

// A Counter is one of the stack's own counters.
type Counter struct {
	Name  string // suitable as a metric label
	Count uint64
}

// Counters returns the TCP counters of the stack.
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

// Retransmits returns the number of retransmitted TCP segments.
func (s *Stack) Retransmits() uint64 { return s.stack.Stats().TCP.Retransmits.Value() }

// toAddress converts to gVisor's form, which has no IPv4-mapped addresses.
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
