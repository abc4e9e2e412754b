package netstack_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/knockgw/knockgw/internal/tuntest"
	"github.com/knockgw/knockgw/netstack"
	"github.com/knockgw/knockgw/packet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testMTU     = 1500
	openPort    = 443
	hiddenPort  = 22
	timeout     = 10 * time.Second       // for events that have to happen
	quietPeriod = 100 * time.Millisecond // without events that must not happen
)

var (
	client4 = netip.MustParseAddr("192.0.2.1")
	client6 = netip.MustParseAddr("2001:db8::1")
	target4 = netip.MustParseAddr("10.77.0.1")
	target6 = netip.MustParseAddr("fd77::1")
)

// A harness is a Stack on an in-memory device. Tests provide the far end: raw
// packets, or a client's stack with connect.
type harness struct {
	*testing.T
	stack *netstack.Stack
	wire  *tuntest.Device
	stop  context.CancelFunc
	done  chan error
	once  sync.Once

	handle func(r *netstack.Request)                // default: accept and wait for the test
	admit  func(p *packet.Packet) netstack.Decision // default: everything that Parse accepts
	egress atomic.Pointer[func(p *packet.Packet, size int) bool]
	conns  chan *netstack.Conn // what the default handler accepted

	clock   tcpip.Clock // the stack's; nil is the system's
	client  *stack.Stack
	biggest atomic.Int64           // bytes of the largest packet that left
	refused atomic.Int64           // packets that Egress rejected
	seen    func(p *packet.Packet) // called with every packet that left; may be nil
}

// newHarness returns a harness. change may set handle and admit before it
// starts.
func newHarness(t *testing.T, offload bool, change ...func(th *harness)) *harness {
	t.Helper()
	device, wire := tuntest.Pair(testMTU, offload)
	th := &harness{T: t, wire: wire, done: make(chan error, 1), conns: make(chan *netstack.Conn, 5000)}
	th.admit = func(p *packet.Packet) netstack.Decision {
		return netstack.Decision{Pass: p.DropReason == packet.NotDropped, Open: p.Tuple.DstPort == openPort}
	}
	th.handle = func(r *netstack.Request) {
		if c, err := r.Accept(); err == nil {
			th.conns <- c
		}
	}
	for _, c := range change {
		c(th)
	}
	var err error
	th.stack, err = netstack.New(netstack.Options.WithClock(netstack.Options{
		Device: device,
		Admit:  func(p *packet.Packet) netstack.Decision { return th.admit(p) },
		Egress: func(p *packet.Packet, size int) bool {
			if f := th.egress.Load(); f != nil && !(*f)(p, size) {
				th.refused.Add(1)
				return false
			}
			return true
		},
		Handle:    func(r *netstack.Request) { th.handle(r) },
		OpenPorts: []uint16{openPort},
	}, th.clock))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	th.stop = stop
	go func() { th.done <- th.stack.Run(ctx) }()
	t.Cleanup(th.end)
	return th
}

// end stops the stack.
func (th *harness) end() {
	th.stop()
	th.once.Do(func() {
		select {
		case err := <-th.done:
			if err != nil {
				th.Errorf("Run: %v", err)
			}
		case <-time.After(timeout):
			th.Error("Run does not return")
		}
	})
}

// mute makes Egress reject everything.
func (th *harness) mute() {
	f := func(*packet.Packet, int) bool { return false }
	th.egress.Store(&f)
}

// next returns the next packet that leaves, parsed, or nil after the timeout.
func (th *harness) next(within time.Duration) *packet.Packet {
	th.Helper()
	p := new(packet.Packet)
	for end := time.Now().Add(within); !th.wire.TryRead(p); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(end) {
			return nil
		}
	}
	th.check(p)
	return p
}

// silent fails if a packet leaves.
func (th *harness) silent() {
	th.Helper()
	if p := th.next(quietPeriod); p != nil {
		th.Errorf("a packet left: %v, flags %#x", p.Tuple, p.Flags)
	}
}

// check parses a packet, and fails unless a kernel would accept it.
func (th *harness) check(p *packet.Packet) {
	th.Helper()
	o := p.Offload
	whole := len(p.Data)
	if !p.Parse() {
		th.Errorf("a malformed packet left: %v", p.DropReason)
		return
	}
	if len(p.Data) != whole {
		th.Errorf("the IP header says %d bytes of %d", len(p.Data), whole)
	}
	if th.seen != nil {
		th.seen(p)
	}
	th.biggest.Store(max(th.biggest.Load(), int64(whole)))
	biggest := whole
	if o.SegmentSize > 0 {
		biggest = p.Payload + int(o.SegmentSize)
		if int(o.HeaderLength) != p.Payload || len(p.Data) <= biggest || !o.NeedsChecksum {
			th.Errorf("a super-packet of %d bytes with %+v", whole, o)
		}
	}
	if biggest > testMTU {
		th.Errorf("a packet of %d bytes for an MTU of %d (%+v)", biggest, testMTU, o)
	}
	if o.NeedsChecksum {
		if int(o.ChecksumStart) != p.L4 {
			th.Errorf("checksum starts at %d, TCP at %d", o.ChecksumStart, p.L4)
		}
		// The field holds the sum of the pseudo header.
		field := binary.BigEndian.Uint16(p.Data[p.L4+16:])
		if want := pseudo(p); field != want {
			th.Errorf("the checksum field holds %#x, the pseudo header sums to %#x", field, want)
		}
	}
}

// pseudo is the sum of the pseudo header of TCP, not inverted.
func pseudo(p *packet.Packet) uint16 {
	return header.PseudoHeaderChecksum(header.TCPProtocolNumber, toAddress(p.Tuple.Src.Netip()), toAddress(p.Tuple.Dst.Netip()), uint16(len(p.Data)-p.L4))
}

// put sends raw packets to the stack.
func (th *harness) put(packets ...[]byte) {
	th.Helper()
	for _, b := range packets {
		if err := th.wire.Write(packet.Offload{}, [][]byte{b}); err != nil {
			th.Error(err)
		}
	}
}

// accepted returns the next connection that the default handler accepted.
func (th *harness) accepted() *netstack.Conn {
	th.Helper()
	select {
	case c := <-th.conns:
		return c
	case <-time.After(timeout):
		th.Fatal("no connection")
		return nil
	}
}

const nic = 1

func number(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}

func toAddress(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.AsSlice()) }

func full(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nic, Addr: toAddress(a.Addr()), Port: a.Port()}
}

// connect connects a client's stack.
func (th *harness) connect() {
	th.Helper()
	link := channel.New(tuntest.QueueLength, testMTU, "")
	link.LinkEPCapabilities = stack.CapabilityRXChecksumOffload // verified by check
	if th.wire.Info().Offload {
		link.SupportedGSOKind = stack.HostGSOSupported
	}
	th.client = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol},
	})
	if err := th.client.CreateNIC(nic, link); err != nil {
		th.Fatal(err)
	}
	for _, a := range []netip.Addr{client4, client6} {
		p := tcpip.ProtocolAddress{Protocol: number(a), AddressWithPrefix: toAddress(a).WithPrefix()}
		if err := th.client.AddProtocolAddress(nic, p, stack.AddressProperties{}); err != nil {
			th.Fatal(err)
		}
	}
	th.client.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}, {Destination: header.IPv6EmptySubnet, NIC: nic}})
	ctx, cancel := context.WithCancel(context.Background())
	var pumps sync.WaitGroup
	pumps.Go(func() { th.send(ctx, link) })
	pumps.Go(func() { th.receive(link) })
	th.Cleanup(func() {
		th.end()
		cancel()
		pumps.Wait()
		link.Close()
		th.client.Destroy()
	})
}

func (th *harness) send(ctx context.Context, link *channel.Endpoint) {
	for pkt := link.ReadContext(ctx); pkt != nil; pkt = link.ReadContext(ctx) {
		var o packet.Offload
		if g := pkt.GSOOptions; g.Type == stack.GSOTCPv4 || g.Type == stack.GSOTCPv6 {
			o.NeedsChecksum, o.ChecksumStart = g.NeedsCsum, g.L3HdrLen
			if pkt.Data().Size() > int(g.MSS) {
				o.SegmentSize = g.MSS
			}
		}
		v := pkt.ToView()
		_ = th.wire.Write(o, [][]byte{v.AsSlice()})
		v.Release()
		pkt.DecRef()
	}
}

func (th *harness) receive(link *channel.Endpoint) {
	var p packet.Packet
	for th.wire.Read(&p) == nil {
		th.check(&p)
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(p.Data)})
		link.InjectInbound(number(p.Tuple.Dst.Netip()), pkt)
		pkt.DecRef()
	}
}

// families are the addresses of a client and a target.
var families = map[string]struct{ home, target netip.Addr }{
	"IPv4": {client4, target4},
	"IPv6": {client6, target6},
}

func (th *harness) dial(home netip.Addr, to netip.AddrPort, within time.Duration) (*gonet.TCPConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	return gonet.DialTCPWithBind(ctx, th.client, full(netip.AddrPortFrom(home, 0)), full(to), number(home))
}

// must dials, and fails the test on an error.
func (th *harness) must(home netip.Addr, to netip.AddrPort) *gonet.TCPConn {
	th.Helper()
	c, err := th.dial(home, to, timeout)
	if err != nil {
		th.Fatalf("dial %v: %v", to, err)
	}
	_ = c.SetDeadline(time.Now().Add(timeout))
	return c
}

// transfer sends data from one end to the other in writes of these sizes,
// followed by a FIN, and fails unless all of it arrives.
func (th *harness) transfer(from io.Writer, to io.Reader, data []byte, sizes func() int) {
	th.Helper()
	sent := make(chan error, 1)
	go func() {
		var err error
		for b := data; len(b) > 0 && err == nil; {
			n := min(sizes(), len(b))
			_, err = from.Write(b[:n])
			b = b[n:]
		}
		if err == nil {
			err = from.(interface{ CloseWrite() error }).CloseWrite()
		}
		sent <- err
	}()
	got, err := io.ReadAll(to)
	if err != nil || !bytes.Equal(got, data) {
		th.Errorf("%d bytes of %d arrived: %v", len(got), len(data), err)
	}
	if err := <-sent; err != nil {
		th.Errorf("send: %v", err)
	}
}
