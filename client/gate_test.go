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

// testGate is a gate on loopback for the examples: a socket that takes knocks, and a
// listener of connections that must authenticate with a session that was knocked
// with. What it lacks is silence: the kernel answers for it.
type testGate struct {
	listener *auth.Listener
	knocks   *net.UDPConn
	port     uint16 // of the service
	alice    *protocol.Client
	clock    atomic.Int64 // less the host's, in nanoseconds
	running  sync.WaitGroup

	mu       sync.Mutex
	sessions map[string]bool // that were knocked with
	knocked  chan struct{}   // closed by the next knock
}

const exampleSecret = "sixteen bytes or more of a secret"

// newTestGate opens a gate and has serve handle each connection, if it is not nil, or
// whoever accepts from its listener.
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

// close waits until nothing of the gate runs any more.
func (g *testGate) close() {
	_ = g.knocks.Close()
	_ = g.listener.Close()
	g.running.Wait()
}

func (g *testGate) now() time.Time { return time.Now().Add(time.Duration(g.clock.Load())) }

// address is where the service is.
func (g *testGate) address() string { return g.listener.Addr().String() }

// dialer is alice's.
func (g *testGate) dialer() *client.Dialer {
	return &client.Dialer{
		Identity:  g.alice,
		KnockPort: uint16(g.knocks.LocalAddr().(*net.UDPAddr).Port),
		Auth:      auth.Client{Proof: true},
	}
}

// readKnocks takes knocks until the socket is closed.
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

// authorize takes each session once. A connection may overtake its knock, for which
// it waits.
func (g *testGate) authorize(ctx context.Context, p auth.Peer, claim func() error) error {
	ctx, cancel := context.WithTimeout(ctx, auth.DefaultDeadline/2)
	defer cancel()
	for {
		spent, knocked := g.consume(string(p.Message.SessionID))
		if spent {
			return claim()
		}
		select {
		case <-knocked:
		case <-ctx.Done():
			return net.ErrClosed
		}
	}
}

// consume uses a session up, or tells when there may be another one.
func (g *testGate) consume(session string) (spent bool, knocked <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	spent = g.sessions[session]
	delete(g.sessions, session)
	return spent, g.knocked
}
