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

// A hostKind is what lives at an address of a fakeNet.
type hostKind int

const (
	noHost     hostKind = iota // nothing answers
	gatedHost                  // a gate, and a service behind it
	refusing                   // resets
	unroutable                 // no route
	impostor                   // a service that knows no secret, and wants no knock
	silent                     // one that says nothing
	closing                    // one that hangs up at once
)

// Times and limits of the fake network's hosts.
const (
	fakeTTL    = 15 * time.Second
	fakeWindow = 30 * time.Second
	firstRTO   = time.Second            // of a SYN
	segmentRTO = 200 * time.Millisecond // of what follows
)

// fakeNet is a network in memory, for bubbles of synctest: UDP to a gate, and TCP
// as far as a Dialer sees it, with a kernel's SYN timers, delay and loss.
type fakeNet struct {
	hosts      map[netip.Addr]hostKind
	rtt        time.Duration // there and back
	loss       float64       // of packets, each way
	clock      time.Duration // the gate's, less ours
	noAuth     bool
	dropKnocks int // knocks that the gate does not get to hear
	dropAuths  int // authentications that it does not get to hear
	// knockWait is how long the gate waits for the knock of an authentication's session.
	knockWait time.Duration
	server    auth.Server
	ctx       context.Context
	cancel    context.CancelFunc
	served    sync.WaitGroup

	mu         sync.Mutex
	random     *rand.Rand
	grants     []*fakeGrant
	knocked    chan struct{} // closed by the next knock that is taken
	knocks     []fakeKnock
	dials      []fakeDial
	open       int // connections and attempts that the client has not closed
	failed     int // authentications
	dialing    int // connections that are being made
	maxDialing int // the most of them at once
}

type fakeGrant struct {
	session string
	dies    time.Time
	flow    *int // whose SYN it let in
}

type fakeKnock struct {
	at      time.Duration // since the network was made
	to      netip.AddrPort
	nonce   string
	session string
	skew    time.Duration // its stamp, less the gate's time
	taken   bool
}

type fakeDial struct {
	at    time.Duration
	to    netip.AddrPort
	local net.Addr
}

var fakeStart = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // when every bubble begins

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

// answers tells whether a flow's SYN is.
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

// release is the RST of a socket that is no more.
func (n *fakeNet) release(flow *int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, g := range n.grants {
		if g.flow == flow {
			g.flow = nil
		}
	}
}

// established is the client's end of a connection that a dweller serves.
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
			if auth.ResultOf(err) != auth.ResultClosed { // a pipe whose other end is closed takes no deadline
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

// authorize spends a grant of the session that was knocked with, for which it waits.
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

// consume spends a grant of session, or tells when there may be another one.
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

// onKnock is what a gate does with a knock.
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

// fakeTCP is an end of an established connection: what is written is late by the
// retransmissions that it took.
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

// newRand is randomness that is the same each time.
func newRand(seed int) *rand.Rand { return rand.New(rand.NewPCG(uint64(seed), 5)) }
