package client_test

import (
	"context"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/protocol"
)

// testGate is a gateway on loopback for the examples: a socket that receives
// knocks, and a listener whose connections must authenticate with the session
// of a knock. Unlike a real gateway it is not silent: the kernel answers for
// it.
type testGate struct {
	listener *auth.Listener
	knocks   *net.UDPConn
	port     uint16 // of the service
	alice    *protocol.Client
	clock    atomic.Int64 // offset from the host's, in nanoseconds
	running  sync.WaitGroup

	mu       sync.Mutex
	sessions map[string]bool // of received knocks
	knocked  chan struct{}   // closed by the next knock
}

const exampleSecret = "sixteen bytes or more of a secret"

// newTestGate starts a gateway that calls serve for each connection. If serve is
// nil, the test accepts from listener itself.
func newTestGate(serve func(net.Conn)) *testGate {
	alice, err := protocol.NewClient("alice", []byte(exampleSecret))
	if err != nil {
		panic(err)
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	knocks, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		panic(err)
	}
	g := &testGate{
		knocks: knocks, port: uint16(inner.Addr().(*net.TCPAddr).Port), alice: alice,
		sessions: map[string]bool{}, knocked: make(chan struct{}),
	}
	g.listener = auth.NewListener(inner, &auth.Server{
		Port: g.port, Clients: slices.Values([]*protocol.Client{alice}), Proof: true,
		Now: g.now, Authorize: g.authorize,
	}, auth.ListenerOptions{})
	g.running.Go(g.readKnocks)
	if serve != nil {
		g.running.Go(func() {
			for {
				conn, err := g.listener.Accept()
				if err != nil {
					return
				}
				g.running.Go(func() {
					serve(conn)
					_ = conn.Close()
				})
			}
		})
	}
	return g
}

// close stops the gateway and waits for its goroutines.
func (g *testGate) close() {
	_ = g.knocks.Close()
	_ = g.listener.Close()
	g.running.Wait()
}

func (g *testGate) now() time.Time { return time.Now().Add(time.Duration(g.clock.Load())) }

// address returns the address of the service.
func (g *testGate) address() string { return g.listener.Addr().String() }

// dialer returns a dialer for alice.
func (g *testGate) dialer() *client.Dialer {
	return &client.Dialer{
		Identity:  g.alice,
		KnockPort: uint16(g.knocks.LocalAddr().(*net.UDPAddr).Port),
		Auth:      auth.Client{Proof: true},
	}
}

// readKnocks receives knocks until the socket is closed.
func (g *testGate) readKnocks() {
	b, s := make([]byte, protocol.MaxKnock+1), protocol.NewScratch()
	for {
		n, _, err := g.knocks.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		k, err := protocol.ParseKnock(b[:n])
		if err != nil || !k.Match(s, g.alice, g.port) {
			continue
		}
		m, err := k.Open(s, g.alice, g.port)
		if err != nil || g.now().Sub(time.UnixMilli(m.Time)).Abs() > auth.DefaultWindow {
			continue
		}
		g.mu.Lock()
		g.sessions[string(m.SessionID)] = true
		close(g.knocked)
		g.knocked = make(chan struct{})
		g.mu.Unlock()
	}
}

// authorize accepts each session once. A connection may overtake its knock, so
// it waits for one.
func (g *testGate) authorize(ctx context.Context, p auth.Peer, claim func() error) error {
	ctx, cancel := context.WithTimeout(ctx, auth.DefaultDeadline/2)
	defer cancel()
	for {
		used, knocked := g.consume(string(p.Message.SessionID))
		if used {
			return claim()
		}
		select {
		case <-knocked:
		case <-ctx.Done():
			return net.ErrClosed
		}
	}
}

// consume uses up a session, or returns a channel that the next knock closes.
func (g *testGate) consume(session string) (used bool, knocked <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	used = g.sessions[session]
	delete(g.sessions, session)
	return used, g.knocked
}
