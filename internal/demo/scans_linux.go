package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/internal/netlab"
	"github.com/knockgw/knockgw/protocol"
)

const (
	// wellKnown is the last of the ports that every scan probes.
	wellKnown = 1024
	// openPort and closedPort are ports of the gateway's own address, which is
	// not hidden.
	openPort, closedPort = 7001, 7002

	reachTimeout   = 5 * time.Second // to knock, connect and authenticate; it takes some milliseconds
	decideTimeout  = 2 * time.Second // for the gateway to decide knocks, and to forget flows
	decideInterval = 20 * time.Millisecond
)

// scannedPorts returns the ports that every scan probes.
func scannedPorts() []uint16 {
	ports := []uint16{knockPort}
	for p := range uint16(wellKnown) {
		ports = append(ports, p+1)
	}
	return ports
}

// scanControl scans an address that is not hidden, to show that the scanner
// works. The listeners stay open to the end: closing one resets the connections
// that wait in it, and the next scan would see the packets.
func (s *scenario) scanControl(ctx context.Context) error {
	s.step("Control: an address that is not hidden, to show that the scanner works")
	for _, a := range s.lab.routers() {
		l, err := s.lab.Gateway.Listen(ctx, "tcp", netip.AddrPortFrom(a, openPort).String())
		if err != nil {
			return fmt.Errorf("open an ordinary port: %w", err)
		}
		s.listeners = append(s.listeners, l)
	}

	s.line("   The gateway's own address; one of the two ports has a listener.")
	ports := []uint16{openPort, closedPort}
	f, err := scan{
		from: s.lab.Attacker, capture: s.captures[s.lab.Attacker],
		addrs: s.lab.routers(), ports: ports, connectPorts: ports,
	}.run(ctx)
	if err != nil {
		return err
	}

	s.table(f.states.rows(s.lab.routers()))
	for t, want := range map[technique]string{
		connectScan: "1 open, 1 closed", synScan: "1 open, 1 closed", ackScan: "2 unfiltered",
		finScan: "1 closed, 1 open|filtered", udpScan: "2 closed", echoScan: "up",
	} {
		for _, a := range s.lab.routers() {
			if got := f.states.summary(t, a); got != want {
				s.check(false, "%s of the ordinary %v should say %q and says %q", t, a, want, got)
			}
		}
	}
	s.check(len(f.back) > 0, "%d probes sent, %d packets received", f.probes, len(f.back))
	return nil
}

// scanHidden scans the protected addresses, which must not answer, from the
// attacker and from the client at the same time. The table is what the attacker
// sees.
func (s *scenario) scanHidden(ctx context.Context, table bool) error {
	var (
		from     = []*netlab.Host{s.lab.Attacker, s.lab.Client}
		found    = make([]finding, len(from))
		errs     = make([]error, len(from))
		scanning sync.WaitGroup
	)

	for i, h := range from {
		scanning.Go(func() {
			found[i], errs[i] = scan{
				from: h, capture: s.captures[h], except: s.admitted,
				addrs: s.lab.hidden(), ports: scannedPorts(), connectPorts: []uint16{hiddenPort},
			}.run(ctx)
		})
	}
	scanning.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}

	if table {
		s.table(found[0].states.rows(s.lab.hidden()))
	}
	for i, h := range from {
		f := found[i]
		answered := f.states.answers()
		conclusion := answered
		switch {
		case answered == "" && len(f.back) > 0:
			conclusion = "no port answered, but received " + f.back[0].String()
		case answered == "":
			conclusion = "all filtered"
		}
		s.check(answered == "" && len(f.back) == 0 && f.sent >= f.probes,
			"%s: %d packets sent, %d received; %s", h.Name, f.sent, len(f.back), conclusion)
	}
	return nil
}

// scanBefore scans before any knock.
func (s *scenario) scanBefore(ctx context.Context) error {
	s.step("Before a knock: scans of the hidden service")
	s.line("   (nmap also reports open|filtered if a FIN or a datagram gets no answer.)")
	return s.scanHidden(ctx, true)
}

// dialer returns a dialer of the client with a secret, on a host.
func (s *scenario) dialer(at *netlab.Host, secret []byte) (*client.Dialer, error) {
	id, err := protocol.NewClient(clientID, secret)
	if err != nil {
		return nil, err
	}
	return &client.Dialer{
		Identity: id, KnockPort: knockPort, Auth: auth.Client{Proof: true}, Timeout: reachTimeout,
		Dial: func(ctx context.Context, by *net.Dialer, network, address string) (conn net.Conn, err error) {
			// In the namespace of the host.
			err = at.Do(func() (err error) {
				conn, err = by.DialContext(ctx, network, address)
				return err
			})
			return conn, err
		},
	}, nil
}

// services returns the hidden service's addresses as a client dials them.
func (s *scenario) services() []netip.AddrPort {
	var all []netip.AddrPort
	for _, a := range s.lab.hidden() {
		all = append(all, netip.AddrPortFrom(a, hiddenPort))
	}
	return all
}

// connect has the client knock, authenticate and talk to the upstream.
func (s *scenario) connect(ctx context.Context) error {
	s.step("The client knocks, connects and authenticates")
	d, err := s.dialer(s.lab.Client, s.secret)
	if err != nil {
		return err
	}

	for i, at := range s.services() {
		mark, begin := s.captures[s.lab.Client].mark(), time.Now()
		conn, err := s.reach(ctx, d, at)
		if err != nil {
			return err
		}
		took := time.Since(begin)
		s.sessions = append(s.sessions, session{conn, bufio.NewReader(conn)})
		knock, err := s.captured(ctx, mark, at.Addr())
		if err != nil {
			return err
		}
		s.knocks = append(s.knocks, knock)

		upstream := netip.AddrPortFrom(s.lab.Upstream.Addrs()[i], upstreamPort)
		s.line("     client    knocks at %s with %d bytes of UDP,", netip.AddrPortFrom(at.Addr(), knockPort), len(knock))
		s.line("               connects to %v, both sides authenticate: %.1f ms", at, float64(took.Microseconds())/1000)

		got, err := s.sessions[i].ask(ctx)
		if err != nil {
			return fmt.Errorf("%w: over the session to %v: %w", ErrCheckFailed, at, err)
		}
		made := s.upstream.last()
		s.line("     upstream  at %v is asked by %v,", upstream, made.from)
		s.line("               makes token    %s", made.text)
		s.line("     client    receives token %s", got)
		s.check(got == made.text && made.from == s.lab.families[i].upstream,
			"over %v the client reached the real upstream", at)
	}
	return nil
}

// reach dials a service from the client, and excludes the connection's packets
// from the answers to scans.
func (s *scenario) reach(ctx context.Context, d *client.Dialer, at netip.AddrPort) (net.Conn, error) {
	conn, err := d.DialContext(ctx, "tcp", at.String())
	if err != nil {
		return nil, fmt.Errorf("%w: the client cannot reach %v: %w", ErrCheckFailed, at, err)
	}
	if own, err := netip.ParseAddrPort(conn.LocalAddr().String()); err == nil {
		s.admitted = append(s.admitted, own)
	}
	return conn, nil
}

// captured finds the knock that the client has just sent.
func (s *scenario) captured(ctx context.Context, mark int, to netip.Addr) (knock []byte, err error) {
	err = netlab.Poll(ctx, netlab.Wait{Timeout: decideTimeout, Interval: decideInterval, For: "the knock to show in the capture"}, func() (bool, error) {
		packets, err := s.captures[s.lab.Client].since(mark)
		for _, p := range packets {
			if p.Proto == netlab.ProtoUDP && p.Dst == netip.AddrPortFrom(to, knockPort) {
				knock = p.Payload
			}
		}
		return knock != nil, err
	})
	return knock, err
}

// scanDuring scans while the client's sessions are open.
func (s *scenario) scanDuring(ctx context.Context) error {
	s.step("During the sessions: scans by the attacker, and by the client")
	if err := s.scanHidden(ctx, true); err != nil {
		return err
	}
	answered := 0
	for i := range s.sessions {
		got, err := s.sessions[i].ask(ctx)
		if err != nil {
			return fmt.Errorf("%w: over the session to %v: %w", ErrCheckFailed, s.services()[i], err)
		}
		if got == s.upstream.last().text {
			answered++
		}
	}
	s.check(answered == len(s.sessions), "sessions that received a new token afterwards: %d of %d",
		answered, len(s.sessions))
	return nil
}
