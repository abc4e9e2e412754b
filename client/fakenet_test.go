package client

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/protocol"
)

// hostKind is the behaviour of an address of a fakeNet.
type hostKind int

const (
	noHost     hostKind = iota // does not answer
	gatedHost                  // a gateway with a service behind it
	refusing                   // resets connections
	unroutable                 // no route
	impostor                   // a service without the secret that needs no knock
	silent                     // accepts and sends nothing
	closing                    // accepts and closes
)

// Times and limits of the fake network's hosts.
const (
	fakeTTL    = 15 * time.Second
	fakeWindow = 30 * time.Second
	firstRTO   = time.Second            // of a SYN
	segmentRTO = 200 * time.Millisecond // of what follows
)

// fakeNet is an in-memory network for synctest bubbles: UDP to a gateway, and
// TCP as a Dialer sees it, with a kernel's SYN timers, delay and packet loss.
type fakeNet struct {
	hosts      map[netip.Addr]hostKind
	rtt        time.Duration // round-trip time
	loss       float64       // probability for a packet, each way
	clock      time.Duration // the gateway's offset from ours
	noAuth     bool
	dropKnocks int // number of knocks that are lost
	dropAuths  int // number of authentications that are lost
	// knockWait is how long the gateway waits for the knock of an
	// authentication.
	knockWait time.Duration
	server    auth.Server
	ctx       context.Context
	cancel    context.CancelFunc
	served    sync.WaitGroup

	mu         sync.Mutex
	random     *rand.Rand
	grants     []*fakeGrant
	knocked    chan struct{} // closed by the next accepted knock
	knocks     []fakeKnock
	dials      []fakeDial
	open       int // connections and attempts that the client has not closed
	failed     int // authentications
	dialing    int // connections in progress
	maxDialing int // its maximum
}

type fakeGrant struct {
	session string
	dies    time.Time
	flow    *int // whose SYN it admitted
}

type fakeKnock struct {
	at      time.Duration // since the start
	to      netip.AddrPort
	nonce   string
	session string
	skew    time.Duration // its timestamp, relative to the gateway's clock
	taken   bool
}

type fakeDial struct {
	at    time.Duration
	to    netip.AddrPort
	local net.Addr
}

var fakeStart = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // the start of every bubble

func newFakeNet(t *testing.T, hosts map[netip.Addr]hostKind) *fakeNet {
	n := &fakeNet{hosts: hosts, rtt: 20 * time.Millisecond, random: rand.New(rand.NewPCG(5, 1)), knocked: make(chan struct{})}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.server = auth.Server{
		Port: 22, Clients: slices.Values([]*protocol.Client{testIdentity(t)}), Proof: true,
		Now: n.gateTime, Authorize: n.authorize,
	}
	t.Cleanup(func() {
		n.cancel()
		n.served.Wait()
		if n.open != 0 {
			t.Errorf("%d sockets are left open", n.open)
		}
	})
	return n
}

func (n *fakeNet) dialer(t *testing.T) *Dialer {
	return &Dialer{Identity: testIdentity(t), Auth: auth.Client{Proof: true}, NoAuth: n.noAuth, Dial: n.dial}
}

func (n *fakeNet) gateTime() time.Time { return time.Now().Add(n.clock) }

func (n *fakeNet) lost() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.random.Float64() < n.loss
}

func (n *fakeNet) count(by int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.open += by
}

// dial is a Dialer's Dial.
func (n *fakeNet) dial(ctx context.Context, by *net.Dialer, network, address string) (net.Conn, error) {
	to := netip.MustParseAddrPort(address)
	if n.hosts[to.Addr()] == unroutable {
		return nil, &net.OpError{Op: "dial", Net: network, Err: os.NewSyscallError("connect", syscall.ENETUNREACH)}
	}
	n.count(1)
	if network == "udp" {
		near, other := net.Pipe()
		_ = other.Close()
		return &fakeUDP{Conn: near, net: n, to: to}, nil
	}
	n.mu.Lock()
	n.dials = append(n.dials, fakeDial{time.Since(fakeStart), to, by.LocalAddr})
	n.dialing++
	n.maxDialing = max(n.maxDialing, n.dialing)
	n.mu.Unlock()
	conn, err := n.connect(ctx, to)
	n.mu.Lock()
	n.dialing--
	n.mu.Unlock()
	if err != nil {
		n.count(-1)
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	return conn, nil
}

// connect sends SYNs until one is answered.
func (n *fakeNet) connect(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	flow, timeout := new(int), firstRTO
	for {
		if !n.lost() && n.answers(n.hosts[to.Addr()], flow) && !n.lost() {
			if err := sleep(ctx, n.rtt); err != nil {
				n.release(flow)
				return nil, err
			}
			if n.hosts[to.Addr()] == refusing {
				return nil, os.NewSyscallError("connect", connectionRefused)
			}
			return n.established(n.hosts[to.Addr()]), nil
		}
		if err := sleep(ctx, timeout); err != nil {
			n.release(flow)
			return nil, err
		}
		timeout *= 2
	}
}

// answers reports whether a host answers the SYN of flow.
func (n *fakeNet) answers(at hostKind, flow *int) bool {
	if at != gatedHost {
		return at != noHost
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var free *fakeGrant
	for _, g := range n.grants {
		if g.flow == flow {
			return true
		}
		if g.flow == nil && time.Now().Before(g.dies) {
			free = g
		}
	}
	if free != nil {
		free.flow = flow
	}
	return free != nil
}

// release handles the RST of a closed socket.
func (n *fakeNet) release(flow *int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, g := range n.grants {
		if g.flow == flow {
			g.flow = nil
		}
	}
}

// established returns the client's end of a connection to a host.
func (n *fakeNet) established(at hostKind) net.Conn {
	near, other := net.Pipe()
	n.served.Go(func() {
		defer func() { _ = other.Close() }()
		stop := context.AfterFunc(n.ctx, func() { _ = other.Close() })
		defer stop()
		n.serve(at, &fakeTCP{Conn: other, net: n, remote: true})
	})
	return &fakeTCP{Conn: near, net: n}
}

func (n *fakeNet) serve(at hostKind, conn net.Conn) {
	b := make([]byte, protocol.DefaultMaxFrame)
	switch {
	case at == closing:
		return
	case at == impostor:
		_, _ = conn.Read(b)
		_, _ = conn.Write(b[:protocol.ProofSize])
	case at == gatedHost && !n.noAuth:
		n.mu.Lock()
		n.dropAuths--
		spoilt := n.dropAuths >= 0
		n.mu.Unlock()
		if spoilt {
			_, _ = conn.Read(b)
			time.Sleep(auth.DefaultDeadline)
			return
		}
		if _, err := n.server.Handshake(n.ctx, conn); err != nil {
			if auth.ResultOf(err) != auth.ResultClosed { // a pipe whose peer is closed returns an error for SetDeadline
				n.mu.Lock()
				n.failed++
				n.mu.Unlock()
			}
			return
		}
	}
	for {
		if _, err := conn.Read(b); err != nil {
			return
		}
	}
}

// authorize consumes a grant of the session, and waits for its knock.
func (n *fakeNet) authorize(ctx context.Context, p auth.Peer, claim func() error) error {
	ctx, cancel := context.WithTimeout(ctx, n.knockWait)
	defer cancel()
	for {
		spent, heard := n.consume(string(p.Message.SessionID))
		if spent {
			return claim()
		}
		select {
		case <-heard:
		case <-ctx.Done():
			return auth.ErrOptions
		}
	}
}

// consume uses up a grant of session, or returns a channel that the next knock
// closes.
func (n *fakeNet) consume(session string) (spent bool, heard <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, g := range n.grants {
		if g.session == session && time.Now().Before(g.dies) {
			n.grants = slices.Delete(n.grants, i, i+1)
			return true, nil
		}
	}
	return false, n.knocked
}

// onKnock processes a knock at the gateway.
func (n *fakeNet) onKnock(to netip.AddrPort, b []byte) {
	k, err := protocol.ParseKnock(b)
	if err != nil {
		return
	}
	client := n.server.Clients
	m, opened := protocol.KnockMessage{}, false
	for c := range client {
		if m, err = k.Open(protocol.NewScratch(), c, 22); err == nil {
			opened = true
		}
	}
	skew := time.UnixMilli(m.Time).Sub(n.gateTime())
	n.mu.Lock()
	defer n.mu.Unlock()
	heard := fakeKnock{at: time.Since(fakeStart), to: to, nonce: string(k.Nonce()), session: string(m.SessionID), skew: skew}
	if n.dropKnocks--; n.dropKnocks < 0 && opened && skew.Abs() <= fakeWindow && n.hosts[to.Addr()] == gatedHost {
		heard.taken = true
		n.grants = append(n.grants, &fakeGrant{session: heard.session, dies: time.Now().Add(fakeTTL)})
		close(n.knocked)
		n.knocked = make(chan struct{})
	}
	n.knocks = append(n.knocks, heard)
}

// fakeUDP is a socket for knocks.
type fakeUDP struct {
	net.Conn
	net *fakeNet
	to  netip.AddrPort
}

func (c *fakeUDP) Write(b []byte) (int, error) {
	if !c.net.lost() {
		c.net.onKnock(c.to, b)
	}
	return len(b), nil
}

func (c *fakeUDP) Close() error {
	c.net.count(-1)
	return c.Conn.Close()
}

// fakeTCP is one end of an established connection. Writes are delayed by
// retransmissions.
type fakeTCP struct {
	net.Conn
	net    *fakeNet
	remote bool
	once   sync.Once
}

func (c *fakeTCP) Write(b []byte) (int, error) {
	late := c.net.rtt / 2
	for timeout := segmentRTO; c.net.lost(); timeout *= 2 {
		late += timeout
	}
	time.Sleep(late)
	return c.Conn.Write(b)
}

func (c *fakeTCP) Close() error {
	if !c.remote {
		c.once.Do(func() { c.net.count(-1) })
	}
	return c.Conn.Close()
}

// newRand returns a deterministic source of randomness.
func newRand(seed int) *rand.Rand { return rand.New(rand.NewPCG(uint64(seed), 5)) }
