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
	// wellKnown is the last of the ports that every scan asks.
	wellKnown = 1024
	// openPort and closedPort are of the gateway's own address, which nothing hides.
	openPort, closedPort = 7001, 7002

	reachTimeout   = 5 * time.Second // to knock, connect and authenticate; it takes some milliseconds
	decideTimeout  = 2 * time.Second // for the gateway to decide knocks, and to forget flows
	decideInterval = 20 * time.Millisecond
)

// scannedPorts are those that every scan asks.
func scannedPorts() []uint16 {
	ports := []uint16{knockPort}
	for p := range uint16(wellKnown) {
		ports = append(ports, p+1)
	}
	return ports
}

// ordinary scans what is not hidden: the witness must be able to see. The
// listeners stay to the end, because closing one resets who waits in it, and
// such a packet would turn up in the next scan.
func (s *story) ordinary(ctx context.Context) error {
	s.step("First an ordinary address, so that the scanner is known to see")
	for _, a := range s.lab.routers() {
		l, err := s.lab.Gateway.Listen(ctx, "tcp", netip.AddrPortFrom(a, openPort).String())
		if err != nil {
			return fmt.Errorf("open an ordinary port: %w", err)
		}
		s.ordinaries = append(s.ordinaries, l)
	}
	s.line("   The gateway's own address; of two ports one has a listener.")
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
			if got := f.states.telling(t, a); got != want {
				s.evidence(false, "%s of the ordinary %v should say %q and says %q", t, a, want, got)
			}
		}
	}
	s.evidence(len(f.back) > 0, "%d probes sent, %d packets came back", f.probes, len(f.back))
	return nil
}

// hidden scans the protected addresses, of which nothing may be seen, from the
// attacker and from the client at the same time. The table is what the attacker sees.
func (s *story) hidden(ctx context.Context, table bool) error {
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
		answered := f.states.answered()
		conclusion := answered
		switch {
		case answered == "" && len(f.back) > 0:
			conclusion = "no port's answer, but " + f.back[0].String()
		case answered == "":
			conclusion = "all filtered"
		}
		s.evidence(answered == "" && len(f.back) == 0 && f.sent >= f.probes,
			"%s: %d packets sent, %d came back; %s", h.Name, f.sent, len(f.back), conclusion)
	}
	return nil
}

// before: nobody has knocked.
func (s *story) before(ctx context.Context) error {
	s.step("Before: a scan of the hidden service, nobody has knocked")
	s.line("   (nmap too calls it open|filtered if a FIN or a datagram gets no answer.)")
	return s.hidden(ctx, true)
}

// dialer is the client's, at a host and with a secret.
func (s *story) dialer(at *netlab.Host, secret []byte) (*client.Dialer, error) {
	id, err := protocol.NewClient(clientID, secret)
	if err != nil {
		return nil, err
	}
	return &client.Dialer{
		Identity: id, KnockPort: knockPort, Auth: auth.Client{Proof: true}, Timeout: reachTimeout,
		Dial: func(ctx context.Context, by *net.Dialer, network, address string) (conn net.Conn, err error) {
			// In the host's namespace, which only one thread is in.
			err = at.Do(func() (err error) {
				conn, err = by.DialContext(ctx, network, address)
				return err
			})
			return conn, err
		},
	}, nil
}

// services are the hidden service's addresses as a client dials them.
func (s *story) services() []netip.AddrPort {
	var all []netip.AddrPort
	for _, a := range s.lab.hidden() {
		all = append(all, netip.AddrPortFrom(a, hiddenPort))
	}
	return all
}

// enter: the client knocks, authenticates, and hears the upstream itself.
func (s *story) enter(ctx context.Context) error {
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
			return fmt.Errorf("%w: over the session to %v: %w", ErrEvidence, at, err)
		}
		made := s.upstream.last()
		s.line("     upstream  at %v is asked by %v,", upstream, made.from)
		s.line("               makes token    %s", made.text)
		s.line("     client    receives token %s", got)
		s.evidence(got == made.text && made.from == s.lab.families[i].upstream,
			"over %v the client reached the real upstream", at)
	}
	return nil
}

// reach dials a service from the client. What comes over the connection is no
// answer to anybody's scan, then or later.
func (s *story) reach(ctx context.Context, d *client.Dialer, at netip.AddrPort) (net.Conn, error) {
	conn, err := d.DialContext(ctx, "tcp", at.String())
	if err != nil {
		return nil, fmt.Errorf("%w: the client cannot reach %v: %w", ErrEvidence, at, err)
	}
	if own, err := netip.ParseAddrPort(conn.LocalAddr().String()); err == nil {
		s.admitted = append(s.admitted, own)
	}
	return conn, nil
}

// captured finds the knock that the client has just sent.
func (s *story) captured(ctx context.Context, mark int, to netip.Addr) (knock []byte, err error) {
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

// during: the attacker scans while the client's sessions are open.
func (s *story) during(ctx context.Context) error {
	s.step("Meanwhile: scans from another source, the client's sessions are open")
	if err := s.hidden(ctx, true); err != nil {
		return err
	}
	answered := 0
	for i := range s.sessions {
		got, err := s.sessions[i].ask(ctx)
		if err != nil {
			return fmt.Errorf("%w: over the session to %v: %w", ErrEvidence, s.services()[i], err)
		}
		if got == s.upstream.last().text {
			answered++
		}
	}
	s.evidence(answered == len(s.sessions), "the same sessions had answers with new tokens afterwards: %d of %d",
		answered, len(s.sessions))
	return nil
}
