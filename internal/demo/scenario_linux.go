package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/knockgw/knockgw/internal/netlab"
)

// secretSize is the size of the client's secret in bytes.
const secretSize = 32

// Run builds the lab, runs the scenario in it, and removes everything again. It
// returns nil if all checks pass, and otherwise errors that match
// ErrCheckFailed, fs.ErrPermission if the caller may not build a lab,
// tun.ErrNoTUN if there is no TUN device, or ctx's cause.
func Run(ctx context.Context, o Options) error {
	ctx, cancel := context.WithTimeoutCause(ctx, TimeLimit, fmt.Errorf("the demonstration took longer than %v", TimeLimit))
	defer cancel()
	err := run(ctx, o)
	if err != nil && ctx.Err() != nil { // whatever err is, this is why
		return fmt.Errorf("cut short: %w", context.Cause(ctx))
	}
	return err
}

func run(ctx context.Context, o Options) (err error) {
	begin := time.Now()
	s := &scenario{upstream: newUpstream(), report: report{w: o.Out}, secret: make([]byte, secretSize), captures: make(map[*netlab.Host]*capture)}
	_, _ = rand.Read(s.secret) // never fails
	if s.lab, err = newLab(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.steps(ctx, o.Gateway); err != nil {
		if ctx.Err() == nil && s.gateway != nil {
			s.line("")
			s.line("The gateway's log:")
			s.line("")
			s.print(s.gateway.logTail() + "\n")
		}
		return err
	}
	s.line("")
	s.line("All %d checks passed (%.1f s).", s.ok, time.Since(begin).Seconds())
	return s.err
}

// A scenario is a running demonstration.
type scenario struct {
	report
	lab       *lab
	secret    []byte
	upstream  *upstream
	listeners []net.Listener
	gateway   *gatewayProcess
	captures  map[*netlab.Host]*capture
	sessions  []session
	knocks    [][]byte         // the client's, as captured on its link
	admitted  []netip.AddrPort // the client's ends of connections that were let in
}

// steps runs all steps and returns the errors of failed checks.
func (s *scenario) steps(ctx context.Context, command []string) error {
	for _, step := range []func(context.Context) error{
		func(ctx context.Context) error { return s.prepare(ctx, command) },
		s.scanControl, s.scanBefore, s.connect, s.scanDuring, s.rejectReplays, s.scanAfter, s.checkCounters, s.stopGateway,
	} {
		if err := step(ctx); err != nil {
			return errors.Join(s.verdict(), err)
		}
		if s.err != nil {
			return fmt.Errorf("write the report: %w", s.err)
		}
	}
	return s.verdict()
}

// prepare starts the captures, the upstream and the gateway.
func (s *scenario) prepare(ctx context.Context, command []string) (err error) {
	s.line("knockgw demo: a hidden service, its client, and an attacker that scans for it.")
	s.line("Four network namespaces joined by veth pairs; nothing outside is changed.")
	s.line("")
	s.block(s.lab.picture())

	for _, h := range []*netlab.Host{s.lab.Client, s.lab.Attacker} {
		c, err := startCapture(h)
		if err != nil {
			return err
		}
		s.captures[h] = c
	}

	for _, a := range s.lab.Upstream.Addrs() {
		l, err := s.lab.Upstream.Listen(ctx, "tcp", netip.AddrPortFrom(a, upstreamPort).String())
		if err != nil {
			return fmt.Errorf("start the upstream: %w", err)
		}
		s.upstream.Serve(l)
	}

	config := s.lab.configText()
	s.line("")
	s.line("The gateway's configuration (knockgw run --config %s):", configName)
	s.line("")
	s.block(config)

	begin := time.Now()
	if s.gateway, err = startGateway(s.lab.Gateway, command, config, s.secret); err != nil {
		return err
	}
	if err := s.gateway.waitReady(ctx); err != nil {
		return err
	}
	s.line("")
	s.line("The gateway was ready after %d ms.", time.Since(begin).Milliseconds())
	return nil
}

// close removes everything, in the opposite order of prepare.
func (s *scenario) close() error {
	var err error
	for _, c := range s.sessions {
		_ = c.conn.Close() // what matters is that the gateway notices
	}
	if s.gateway != nil {
		err = s.gateway.close()
	}
	for _, l := range s.listeners {
		err = errors.Join(err, l.Close())
	}
	err = errors.Join(err, s.upstream.Close())
	for _, c := range s.captures {
		err = errors.Join(err, c.close())
	}
	return errors.Join(err, s.lab.Close())
}
