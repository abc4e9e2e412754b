package gateway_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
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
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/gateway"
	"github.com/knockgw/knockgw/internal/tuntest"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// harness is a gateway in memory with clients and attackers:
//
//	client stack (gVisor) --.
//	                        wire ==== device -- gateway -- 127.0.0.1, the kernel's
//	attackers' raw packets -'
type harness struct {
	*testing.T
	gw   *gateway.Gateway
	wire *tuntest.Device
	ip   *stack.Stack
	stop context.CancelFunc // an orderly stop of the gateway
	done chan error         // what Run returned

	tap atomic.Pointer[func(*packet.Packet)] // called with each packet that left the gateway

	mu  sync.Mutex
	got map[netip.Addr]int // packets that left the gateway, by destination
	// resets counts those that are resets.
	resets map[netip.Addr]int
}

const (
	nic     = 1
	testMTU = 1500
)

// clientAddrs are the addresses of the client stack.
var clientAddrs = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::1")}

var (
	alice   = identity("alice", "alice, whose secret is long enough")
	bob     = identity("bob", "bob, whose secret is long enough")
	mallory = identity("alice", "not the secret that alice has")
)

func identity(id, secret string) *protocol.Client {
	c, err := protocol.NewClient(id, []byte(secret))
	if err != nil {
		panic(err)
	}
	return c
}

// services returns the configuration of services in every mode, in both
// families.
func services(upstream string) string {
	var b strings.Builder
	for family, address := range map[string]string{"4": "10.77.0.1", "6": "[fd77::1]"} {
		for port, mode := range []string{"mode: auth", "mode: knock", "mode: knock-auth", "mode: knock-auth, visible: true"} {
			fmt.Fprintf(&b, "  - {name: ipv%s-%d, listen: \"%s:%d\", upstream: %q, %s, auth: {deadline: 500ms}}\n",
				family, port+1, address, port+1, upstream, mode)
		}
	}
	return b.String()
}

// The ports of services.
const (
	modeAuth = 1 + iota
	modeKnock
	modeKnockAuth
	modeVisible
)

// aliceAndBob configures two clients.
const aliceAndBob = `clients:
  - {id: alice, secret: "alice, whose secret is long enough"}
  - {id: bob, secret: "bob, whose secret is long enough"}
`

// parseConfig returns a configuration with the routes of the harness; text has
// the clients, the services and other keys.
func parseConfig(t *testing.T, text string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("lab.yaml", []byte("version: 1\ntun: {routes: [10.77.0.0/24, \"fd77::/64\"]}\n"+text), config.WithoutUpstream())
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func newHarness(t *testing.T, offload bool, services string, change ...func(*gateway.Options)) *harness {
	t.Helper()
	cfg := parseConfig(t, aliceAndBob+"services:\n"+services)
	var err error
	device, wire := tuntest.Pair(testMTU, offload)
	o := gateway.Options{Device: device, DrainTime: -1}
	for _, c := range change {
		c(&o)
	}
	h := &harness{T: t, wire: wire, done: make(chan error, 1), got: make(map[netip.Addr]int), resets: make(map[netip.Addr]int)}
	if h.gw, err = gateway.New(cfg, o); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	h.stop = stop
	go func() { h.done <- h.gw.Run(ctx) }()
	select {
	case <-h.gw.Ready():
	case err := <-h.done:
		t.Fatalf("the gateway ended: %v", err)
	}
	h.connect(offload)
	return h
}

// connect connects the client stack to the wire.
func (h *harness) connect(offload bool) {
	link := channel.New(tuntest.QueueLength, testMTU, "")
	link.LinkEPCapabilities = stack.CapabilityRXChecksumOffload
	if offload {
		link.SupportedGSOKind = stack.HostGSOSupported
	}
	h.ip = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
	})
	if err := h.ip.CreateNIC(nic, link); err != nil {
		h.Fatal(err)
	}
	for _, a := range clientAddrs {
		p := tcpip.ProtocolAddress{Protocol: number(a), AddressWithPrefix: address(a).WithPrefix()}
		if err := h.ip.AddProtocolAddress(nic, p, stack.AddressProperties{}); err != nil {
			h.Fatal(err)
		}
	}
	h.ip.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}, {Destination: header.IPv6EmptySubnet, NIC: nic}})
	ctx, cancel := context.WithCancel(context.Background())
	var pumps sync.WaitGroup
	pumps.Go(func() { h.send(ctx, link) })
	pumps.Go(func() { h.receive(link) })
	h.Cleanup(func() {
		h.stop()
		if err := <-h.done; err != nil {
			h.Errorf("Run: %v", err)
		}
		cancel()
		pumps.Wait()
		link.Close()
		h.ip.Destroy()
	})
}

func (h *harness) send(ctx context.Context, link *channel.Endpoint) {
	for {
		pkt := link.ReadContext(ctx)
		if pkt == nil {
			return
		}
		var o packet.Offload
		if g := pkt.GSOOptions; g.Type == stack.GSOTCPv4 || g.Type == stack.GSOTCPv6 {
			o.NeedsChecksum, o.ChecksumStart = g.NeedsCsum, g.L3HdrLen
			if pkt.Data().Size() > int(g.MSS) {
				o.SegmentSize = g.MSS
			}
		}
		v := pkt.ToView()
		_ = h.wire.Write(o, [][]byte{v.AsSlice()}) // not read after the end of the gateway
		v.Release()
		pkt.DecRef()
	}
}

func (h *harness) receive(link *channel.Endpoint) {
	var p packet.Packet
	for h.wire.Read(&p) == nil {
		if !p.Parse() {
			h.Errorf("the gateway sent a packet with a fault: %v", p.DropReason)
		}
		if len(p.Data) > testMTU && p.Offload.SegmentSize == 0 {
			h.Errorf("the gateway sent %d bytes without a segment size", len(p.Data))
		}
		if tap := h.tap.Load(); tap != nil {
			(*tap)(&p)
		}
		dst := p.Tuple.Dst.Netip()
		h.mu.Lock()
		h.got[dst]++
		if p.Flags&packet.RST != 0 {
			h.resets[dst]++
		}
		h.mu.Unlock()
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(p.Data)})
		link.InjectInbound(number(dst), pkt)
		pkt.DecRef()
	}
}

// received returns how many packets the gateway has sent to an address.
func (h *harness) received(a netip.Addr) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.got[a]
}

// receivedData is received without resets.
func (h *harness) receivedData(a netip.Addr) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.got[a] - h.resets[a]
}

func number(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}

func address(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.AsSlice()) }

func full(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nic, Addr: address(a.Addr()), Port: a.Port()}
}

// target returns the protected address of a service in the family of home.
func target(home netip.Addr, port uint16) netip.AddrPort {
	if home.Is4() {
		return netip.AddrPortFrom(netip.MustParseAddr("10.77.0.1"), port)
	}
	return netip.AddrPortFrom(netip.MustParseAddr("fd77::1"), port)
}

func newSession() []byte { return []byte(rand.Text())[:protocol.MinSessionID] }

func knockFor(c *protocol.Client, to netip.AddrPort, session []byte, at time.Time) []byte {
	m := protocol.KnockMessage{Method: protocol.MethodUDP, Time: at.UnixMilli(), SessionID: session}
	b, err := protocol.AppendKnock(nil, c, to.Port(), &m, rand.Reader)
	if err != nil {
		panic(err)
	}
	return b
}

// datagram sends payload to the knock port of a service's address.
func (h *harness) datagram(home netip.Addr, to netip.AddrPort, payload []byte) {
	h.Helper()
	local, remote := full(netip.AddrPortFrom(home, 0)), full(netip.AddrPortFrom(to.Addr(), config.DefaultUDPPort))
	conn, err := gonet.DialUDP(h.ip, &local, &remote, number(home))
	if err != nil {
		h.Fatal(err)
	}
	if _, err := conn.Write(payload); err != nil {
		h.Error(err)
	}
	_ = conn.Close()
}

// timeout is the limit for expected events, and quietPeriod how long the tests
// wait for events that must not happen.
const (
	timeout     = 10 * time.Second
	quietPeriod = 300 * time.Millisecond
)

func (h *harness) dial(home netip.Addr, to netip.AddrPort, within time.Duration) (*gonet.TCPConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	return gonet.DialTCPWithBind(ctx, h.ip, full(netip.AddrPortFrom(home, 0)), full(to), number(home))
}

// connectAs reaches a service as a client does in its mode: knock,
// dial, authenticate.
func (h *harness) connectAs(c *protocol.Client, home netip.Addr, port uint16) (*gonet.TCPConn, error) {
	h.Helper()
	to, session := target(home, port), newSession()
	if port != modeAuth {
		h.datagram(home, to, knockFor(c, to, session, time.Now()))
	}
	within := timeout
	if c == mallory {
		within = quietPeriod
	}
	conn, err := h.dial(home, to, within)
	if err != nil || port == modeKnock {
		return conn, err
	}
	a := auth.Client{Identity: c, Port: port, SessionID: session, Proof: true}
	if err := a.Handshake(context.Background(), conn); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// exchange sends a request, ends it, and requires an identical reply.
func (h *harness) exchange(conn net.Conn, size int) {
	h.Helper()
	_ = conn.SetDeadline(time.Now().Add(timeout))
	request := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	sent := make(chan error, 1)
	go func() {
		_, err := conn.Write(request)
		if err == nil {
			err = conn.(interface{ CloseWrite() error }).CloseWrite()
		}
		sent <- err
	}()
	reply, err := io.ReadAll(conn)
	if err := <-sent; err != nil {
		h.Errorf("send the request: %v", err)
	}
	if err != nil || !bytes.Equal(reply, request) {
		h.Errorf("%d of %d bytes came back: %v", len(reply), len(request), err)
	}
	_ = conn.Close()
}

// upstream listens on loopback until the test ends, and serves each connection
// on a goroutine of its own; the connection is closed afterwards.
func upstream(t *testing.T, serve func(c net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	t.Cleanup(func() { _ = ln.Close(); conns.Wait() })
	return ln.Addr().String()
}

// echoUpstream returns an upstream that echoes each request at its end.
func echoUpstream(t *testing.T) string {
	t.Helper()
	return upstream(t, func(c net.Conn) {
		if b, err := io.ReadAll(c); err == nil {
			_, _ = c.Write(b)
		}
	})
}
