package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/knockgw/knockgw/internal/netlab"
)

// rejectReplays replays the client's knocks from the attacker, and knocks with
// wrong secrets.
func (s *scenario) rejectReplays(ctx context.Context) error {
	s.step("Replayed knocks and wrong secrets")
	visits := s.upstream.questions()
	for i, at := range s.services() {
		if err := s.resend(ctx, s.lab.Attacker, netip.AddrPortFrom(at.Addr(), knockPort), s.knocks[i]); err != nil {
			return err
		}
	}
	n := len(s.knocks)
	if err := s.checkKnocks(ctx, "replay", n, "%d captured knocks replayed by the attacker: %d rejected as replays"); err != nil {
		return err
	}

	wrong := bytes.Repeat([]byte{'?'}, secretSize)
	for _, h := range []*netlab.Host{s.lab.Attacker, s.lab.Client} {
		d, err := s.dialer(h, wrong)
		if err != nil {
			return err
		}
		for _, at := range s.services() {
			session, err := d.NewSession()
			if err != nil {
				return err
			}
			if err := d.Knock(ctx, at, session); err != nil {
				return fmt.Errorf("knock with a wrong secret: %w", err)
			}
		}
	}
	if err := s.checkKnocks(ctx, "unknown", 2*n, "%d knocks with a wrong secret: %d rejected as unknown"); err != nil {
		return err
	}

	if err := s.rejectWrongSecret(ctx, wrong); err != nil {
		return err
	}
	if err := s.waitFlows(ctx, n); err != nil {
		return err
	}
	s.check(s.upstream.questions() == visits, "the upstream has received nothing")
	return s.scanHidden(ctx, false)
}

// resend sends a knock, as it was captured, from a host.
func (s *scenario) resend(ctx context.Context, from *netlab.Host, to netip.AddrPort, knock []byte) error {
	conn, err := from.Dial(ctx, "udp", to.String())
	if err != nil {
		return fmt.Errorf("replay a knock: %w", err)
	}
	_, err = conn.Write(knock)
	return errors.Join(err, conn.Close())
}

// checkKnocks waits until the gateway has counted want knocks with a result, and
// checks that it counts no more. The format gets both numbers.
func (s *scenario) checkKnocks(ctx context.Context, result string, want int, format string) error {
	got := 0
	err := netlab.Poll(ctx, netlab.Wait{Timeout: decideTimeout, Interval: decideInterval, For: fmt.Sprintf("%d knocks to be %s", want, result)}, func() (bool, error) {
		c, err := s.gateway.metrics(ctx)
		got = c.Sum("knockgw_knocks_total", "result", result)
		return got >= want, err
	})
	if err != nil && !errors.Is(err, netlab.ErrTimeout) {
		return err
	}
	s.check(got == want, format, want, got)
	return nil
}

// rejectWrongSecret sends a valid knock and authenticates with a wrong secret.
func (s *scenario) rejectWrongSecret(ctx context.Context, wrong []byte) error {
	at := s.services()[0]
	right, err := s.dialer(s.lab.Client, s.secret)
	if err != nil {
		return err
	}
	imposter, err := s.dialer(s.lab.Client, wrong)
	if err != nil {
		return err
	}

	if right.SessionID, err = right.NewSession(); err != nil {
		return err
	}
	right.NoAuth = true
	conn, err := s.reach(ctx, right, at)
	if err != nil {
		return err
	}
	a := imposter.Auth
	// Without waiting for the proof: all answers are counted below.
	a.Identity, a.Port, a.SessionID, a.Proof = imposter.Identity, at.Port(), right.SessionID, false
	if err := a.Handshake(ctx, conn); err != nil {
		return errors.Join(fmt.Errorf("authenticate with a wrong secret: %w", err), conn.Close())
	}

	begin := time.Now()
	err = conn.SetReadDeadline(begin.Add(reachTimeout))
	got, ended := io.ReadAll(conn)
	s.check(len(got) == 0 && !timedOut(ended),
		"a valid knock, then a wrong secret: %d bytes received in %.1f s, then closed",
		len(got), time.Since(begin).Seconds())
	return errors.Join(err, conn.Close())
}

func timedOut(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// waitFlows waits until the gateway serves exactly n flows.
func (s *scenario) waitFlows(ctx context.Context, flows int) error {
	w := netlab.Wait{Timeout: decideTimeout, Interval: decideInterval, For: fmt.Sprintf("all flows but %d to end", flows)}
	return netlab.Poll(ctx, w, func() (bool, error) {
		c, err := s.gateway.metrics(ctx)
		return err == nil && c.Sum("knockgw_flows") == flows, err
	})
}

// scanAfter scans when the sessions are over and an unused grant has expired.
func (s *scenario) scanAfter(ctx context.Context) error {
	s.step("After the sessions: a last knock, and its grant expires")
	for _, c := range s.sessions {
		if err := c.conn.Close(); err != nil {
			return fmt.Errorf("close a session: %w", err)
		}
	}
	s.sessions = nil
	if err := s.waitFlows(ctx, 0); err != nil {
		return err
	}

	d, err := s.dialer(s.lab.Client, s.secret)
	if err != nil {
		return err
	}
	d.NoAuth = true

	begin := time.Now()
	for _, at := range s.services() {
		conn, err := s.reach(ctx, d, at)
		if err != nil {
			return err
		}
		if err := conn.Close(); err != nil {
			return fmt.Errorf("close a connection: %w", err)
		}
	}
	s.check(true, "client: connects after a knock, does not authenticate, closes")

	if err := netlab.Sleep(ctx, time.Until(begin.Add(grantTTL))); err != nil {
		return err
	}
	if err := s.waitFlows(ctx, 0); err != nil {
		return err
	}
	s.line("   %.1f s after that knock, whose grant lasts %v:", time.Since(begin).Seconds(), grantTTL)
	return s.scanHidden(ctx, true)
}

// checkCounters compares the gateway's counters with what was sent.
func (s *scenario) checkCounters(ctx context.Context) error {
	s.step("The gateway's counters (http://%v/metrics)", metricsAddress())
	arrived := 0
	for h, capture := range s.captures {
		packets, err := capture.since(0)
		if err != nil {
			return err
		}
		arrived += sent(packets, h, s.lab.hidden(), nil)
	}

	var (
		c            netlab.Metrics
		judged, lost int
	)
	err := netlab.Poll(ctx, netlab.Wait{Timeout: decideTimeout, Interval: decideInterval, For: "the gateway to judge every packet"}, func() (_ bool, err error) {
		if c, err = s.gateway.metrics(ctx); err != nil {
			return false, err
		}
		refused := c.Sum("knockgw_filter_dropped_packets_total")
		judged = c.Sum("knockgw_packets_total") + refused
		lost, err = s.lost()
		lost = max(lost-refused, 0) // the kernel counts them together
		return judged+lost >= arrived, err
	})
	if err != nil && !errors.Is(err, netlab.ErrTimeout) {
		return err
	}

	s.tally("kernel dropped", c.By("reason", "knockgw_filter_dropped_packets_total"))
	s.tally("packets dropped", c.By("reason", "knockgw_packets_total", "verdict", "drop"))
	s.tally("packets passed", c.By("reason", "knockgw_packets_total", "verdict", "pass"))
	s.tally("packets held", c.By("reason", "knockgw_packets_total", "verdict", "hold"))
	s.tally("knocks", c.By("result", "knockgw_knocks_total"))
	s.tally("authentications", c.By("result", "knockgw_authentications_total"))
	s.tally("bytes relayed", c.By("direction", "knockgw_relayed_bytes_total"))

	also := ""
	if lost > 0 {
		also = fmt.Sprintf(" (%d more were lost in the device's queue)", lost)
	}
	s.check(judged+lost >= arrived, "of %d packets to the hidden addresses the gateway processed %d%s",
		arrived, min(judged, arrived), also)

	n := len(s.lab.families)
	const knocks, auths = "knockgw_knocks_total", "knockgw_authentications_total"
	s.check(c.Sum(knocks, "result", "ok") == 2*n+1 && c.Sum(auths, "result", "ok") == n,
		"accepted: the client's %d knocks and %d authentications, no others", 2*n+1, n)
	return nil
}

// tally prints counts, as many per line as fit.
func (s *scenario) tally(what string, counts []netlab.Count) {
	var parts []string
	for _, n := range counts {
		// A hard space keeps a number with its name when the line is broken.
		parts = append(parts, fmt.Sprintf("%s\u00a0%d", n.Label, n.N))
	}
	const indent = 23
	for i, l := range wrap(strings.Join(parts, ", "), width-indent) {
		if i > 0 {
			what = ""
		}
		s.line("     %-18s%s", what, strings.ReplaceAll(l, "\u00a0", " "))
	}
}

// lost returns how many packets the kernel dropped at the TUN device, for want
// of room in its queue or by its filter.
func (s *scenario) lost() (int, error) {
	link, err := s.lab.Gateway.Routes.LinkByName(netlab.Tunnel)
	if err != nil {
		return 0, fmt.Errorf("find interface %s: %w", netlab.Tunnel, err)
	}
	if link.Attrs().Statistics == nil {
		return 0, nil
	}
	return int(link.Attrs().Statistics.TxDropped), nil
}

// stopGateway stops the gateway and scans once more.
func (s *scenario) stopGateway(ctx context.Context) error {
	s.step("The gateway stops; the protected addresses stay silent")
	err := s.gateway.stop()
	s.check(err == nil, "the gateway stopped cleanly")
	return s.scanHidden(ctx, false)
}
