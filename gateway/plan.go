package gateway

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/flows"
	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/loglimit"
	"github.com/knockgw/knockgw/netstack"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// service is a configured service with what its flows need.
type service struct {
	*config.Service
	auth     *auth.Server // nil in mode knock
	dialer   net.Dialer
	listener *listener // nil where there is an upstream
}

// newService makes what the flows of a service need. Its authentication is
// complete once the service has been joined to a gate.
func (g *Gateway) newService(c *config.Service, window time.Duration) (*service, error) {
	s := &service{Service: c, dialer: net.Dialer{KeepAliveConfig: upstreamKeepAlive}}
	if c.UpstreamDevice != "" {
		control, err := bindToDevice(c.UpstreamDevice)
		if err != nil {
			return nil, err
		}
		s.dialer.Control = control
	}
	if !c.Mode.Authenticates() {
		return s, nil
	}
	s.auth = &auth.Server{
		Port: c.MACPort, Hint: protocol.HintMode(c.Auth.Hint), Buckets: c.Auth.Buckets,
		Proof: c.Auth.Proof, Deadline: c.Auth.Deadline, Window: window, Now: g.o.Now,
	}
	if c.Auth.Accepts(config.AuthV1) {
		s.auth.Protocols |= auth.V1
	}
	if c.Auth.Accepts(config.AuthV2) {
		s.auth.Protocols |= auth.V2
	}
	return s, nil
}

// upstreamKeepAlive finds upstreams that are gone without a word, after 12
// minutes: a network that fails for a while, or a machine that is moved, ends no
// session. The number of probes is the system's (9 on Linux): each setting costs
// every connection a system call.
var upstreamKeepAlive = net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 75 * time.Second, Count: -1}

// join tells a service which gate its clients are authorized by.
func (s *service) join(gate *admission.Gate, r auth.Replay) {
	if s.auth == nil {
		return
	}
	s.auth.Replay = r
	s.auth.Others = func(conn net.Conn) (iter.Seq[*protocol.Client], bool) {
		c, ok := conn.(*netstack.Conn)
		if !ok {
			return nil, false
		}
		return gate.OtherCandidates(c.Tuple())
	}
	s.auth.Authorize = func(ctx context.Context, p auth.Peer, claim func() error) error {
		c, ok := p.Conn.(*netstack.Conn)
		if !ok {
			return errors.New("gateway: a connection that the stack did not make")
		}
		return gate.AuthenticateInTime(ctx, c.Tuple(), p.Client, string(p.Message.SessionID), claim)
	}
}

// key translates a tuple for the flows.
func key(t packet.Tuple) flows.Key {
	return flows.Key{Client: t.Source(), Target: t.Destination()}
}

// request makes a netstack.Request a flows.Request.
type request struct{ *netstack.Request }

// Accept implements flows.Request.
func (r request) Accept() (flows.Conn, error) {
	c, err := r.Request.Accept()
	if err != nil {
		return nil, err
	}
	return c, nil
}

// handle brings one connection to its end.
func (p *parts) handle(ctx context.Context, r *netstack.Request) {
	target := r.Tuple.Destination()
	now := p.setup()
	svc := now.policy.Service(target)
	if svc == nil { // gone since the SYN
		p.gate.Forget(r.Tuple)
		return
	}
	p.g.flows.Serve(ctx, request{r}, p.plan(now.services[svc.Name], r.Tuple, target))
}

// plan says what is to be done with a flow of a service.
func (p *parts) plan(s *service, t packet.Tuple, target netip.AddrPort) *flows.Plan {
	plan := &flows.Plan{
		Key: key(t), Service: s.Name,
		DialTimeout: s.DialTimeout, Idle: s.Idle,
		InFlight:      func() int { return p.gate.InFlight(t) },
		Admitted:      func() bool { return p.gate.Admitted(t) },
		HandshakeDone: func() error { return p.gate.Complete(t) },
		OnDrop:        func() { p.gate.Forget(t) },
		OnClose:       func() { p.gate.Closed(t) },
		OnEnd:         p.g.ended,
	}
	if s.auth != nil {
		plan.Authenticate = func(ctx context.Context, conn net.Conn) (string, error) {
			return p.authenticate(ctx, s, t, conn)
		}
	} else {
		plan.Client = func() string { return p.gate.Client(t) }
	}
	if l := s.listener; l != nil {
		plan.Serve = l.serve
		return plan
	}
	plan.Upstream = s.Upstream.Address(target)
	if s.auth == nil {
		plan.DialFirst = true
		plan.Share = func() (flows.ShareKey, int) {
			grant, uses := p.gate.Uses(t)
			return flows.ShareKey{Grant: grant, Upstream: plan.Upstream}, uses
		}
	}
	plan.Dial = func(ctx context.Context) (net.Conn, error) {
		conn, err := s.dialer.DialContext(ctx, "tcp", plan.Upstream)
		p.g.metrics.dialed(s.Name, err)
		return conn, err
	}
	return plan
}

// authenticate runs the handshake with the clients that could be meant.
func (p *parts) authenticate(ctx context.Context, s *service, t packet.Tuple, conn net.Conn) (string, error) {
	start, candidates := time.Now(), slices.Values(p.gate.Candidates(t))
	peer, err := s.auth.HandshakeWith(ctx, conn, candidates)
	result := auth.ResultOK
	if err != nil {
		result = auth.ResultCanceled
		var failed *auth.Error
		if errors.As(err, &failed) {
			result = failed.Result
			p.explain(s.Name, t, failed)
			if s.Mode == config.ModeKnockAuth && !s.Visible && errors.Is(failed, admission.ErrNoGrant) && !errors.Is(failed, admission.ErrOtherSession) {
				// Its own knock was lost, and its SYN found a neighbour's grant. Without that it would
				// have heard nothing, and tried again.
				p.gate.Forget(t)
			}
		}
	}
	p.g.metrics.auths.Authenticated(s.Name, result, time.Since(start))
	if err != nil {
		p.g.authsRefused.Add(1)
		return "", err
	}
	p.g.watchAuth(s.Name, t, &peer, nil)
	p.g.journal.authenticated(&peer, s.Name, t.Src.Netip(), p.g.o.Now())
	p.g.entered(ctx, "authenticated", "client", peer.Client.ID(), "service", s.Name, "from", t.Source(), "protocol", peer.Protocol.String())
	return peer.Client.ID(), nil
}

// explain counts a failure towards a ban, and logs one that a known client had:
// its message opened, so it is no stranger's, and its owner will want to know
// why it is outside.
func (p *parts) explain(service string, t packet.Tuple, e *auth.Error) {
	p.g.watchAuth(service, t, nil, e)
	p.g.journal.refused(e, service, t.Src.Netip(), p.g.o.Now())
	if e.Result.PeerFailed() {
		p.gate.Failed(t)
	}
	switch e.Result {
	case auth.ResultStoreFailed:
		p.g.health.storeFailed.Store(p.g.o.Now().UnixNano())
		fallthrough
	case auth.ResultStale, auth.ResultReplay, auth.ResultUnauthorized, auth.ResultProof, auth.ResultFull:
		p.g.auditRefused(e, service, t)
		leftOut, ok := p.g.refusals.Allow(p.g.o.Now())
		if !ok {
			return
		}
		attrs := []any{"service", service, "from", t.Source(), "result", e.Result.String()}
		if e.Client != nil {
			attrs = append(attrs, "client", e.Client.ID())
		}
		if e.Result == auth.ResultStale {
			attrs = append(attrs, "clock_difference", e.ClockOffset.Round(time.Millisecond))
		}
		if e.Err != nil {
			attrs = append(attrs, "err", e.Err)
		}
		level := slog.LevelWarn
		if e.Result == auth.ResultStoreFailed {
			level = slog.LevelError
		}
		p.g.log.Log(context.Background(), level, "authentication refused", loglimit.Attrs(leftOut, attrs...)...)
	default:
		// Nothing was tried; counted.
	}
}

// knocked is told of every decided knock.
func (g *Gateway) knocked(e knock.Event) {
	g.metrics.gate.Knocked(e)
	g.journal.knocked(e, g.o.Now())
	if e.Result == knock.StoreFailed {
		g.health.storeFailed.Store(g.o.Now().UnixNano())
	}
	g.watchKnock(&e)
	attrs := []any{"client", e.Client, "service", e.Service, "from", e.Source, "method", e.Method}
	switch e.Result {
	case knock.OK:
		g.auditKnock(&e)
		g.entered(context.Background(), "knock", attrs...)
	case knock.Incomplete, knock.Repeated:
		g.log.Debug("knock", append(attrs, "result", e.Result.String())...)
	default:
		if e.Client == "" {
			return // a stranger's is only counted
		}
		g.auditKnock(&e)
		leftOut, ok := g.refusals.Allow(g.o.Now())
		if !ok {
			return
		}
		attrs = append(attrs, "result", e.Result.String())
		if e.Result == knock.Stale {
			attrs = append(attrs, "clock_difference", e.Skew.Round(time.Millisecond))
		}
		g.log.Warn("knock refused", loglimit.Attrs(leftOut, attrs...)...)
	}
}

// entered logs that somebody was let in: a client that is out of its mind is not to
// fill the disk either.
func (g *Gateway) entered(ctx context.Context, how string, attrs ...any) {
	level := g.everyday()
	if !g.log.Enabled(ctx, level) {
		return
	}
	if leftOut, ok := g.entries.Allow(g.o.Now()); ok {
		g.log.Log(ctx, level, how, loglimit.Attrs(leftOut, attrs...)...)
	}
}

// banned is told of every ban that begins.
func (g *Gateway) banned(b admission.BanEvent) {
	g.auditBan(&b)
	level := g.everyday()
	if leftOut, ok := g.banLines.Allow(g.o.Now()); ok {
		g.log.Log(context.Background(), level, "source banned from open services",
			loglimit.Attrs(leftOut, "source", b.Source, "service", b.Service, "failures", b.Failures, "for", b.For)...)
	}
}

// ended is told of every flow's end.
func (g *Gateway) ended(f *flows.Flow, end flows.CloseReason) {
	g.watchEnd(f, end)
	g.auditSession(f, end)
	g.logSession(f, end)
}
