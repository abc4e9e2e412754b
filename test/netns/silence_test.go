//go:build linux

package netns_test

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	// dripping is long enough for a session to outlast the scans beside it, in
	// drips.
	dripping = int(10 * time.Minute / lab.DripInterval)
	// scansAtOnce keeps the scans, which mostly wait, from waiting one after
	// the other.
	scansAtOnce = 8
)

// hiddenEndpoints is every kind of endpoint that is silent to attackers. All of
// them stand on two addresses.
func hiddenEndpoints(upstream string) []endpoint {
	var hidden []endpoint
	for _, d := range endpoints(upstream) {
		if d.hidden() {
			hidden = append(hidden, d)
		}
	}
	// The ports that the scans ask for.
	for i, port := range []uint16{22, 8443, 22, 8443} {
		hidden[i].listen = netip.AddrPortFrom(hidden[i].listen.Addr(), port)
	}
	return hidden
}

// targets are what the attacker looks at: where the endpoints are, and where
// nothing is.
func targets() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("10.77.0.1"), netip.MustParseAddr("fd77::1")}
}

// silent scans everything in every way and fails the test if anything at all
// comes back.
func silent(t *testing.T, l *lab.Lab) {
	t.Helper()
	capture := l.Attacker.Capture(lab.Link)
	var all errgroup.Group
	all.SetLimit(scansAtOnce)
	for _, target := range targets() {
		scans := scans4()
		if target.Is6() {
			scans = scans6()
		}
		for _, s := range scans {
			all.Go(func() error {
				s.assertBlind(t, l.Attacker, target)
				return nil
			})
		}
	}
	_ = all.Wait()
	sent := 0
	for _, p := range oddPackets(t, l.Attacker) {
		if err := l.Attacker.Inject(p.dst, p.bytes); err != nil {
			t.Errorf("inject %s: %v", p.name, err)
		}
		sent++
	}
	for _, a := range []netip.Addr{netip.MustParseAddr("10.77.0.99"), netip.MustParseAddr("fd77::99")} {
		scan{flags: []string{"-sS"}, v6: a.Is6()}.assertBlind(t, l.Attacker, a)
	}
	packets := capture.Stop()
	l.Attacker.Silent(packets)
	asked := lab.Sent(packets, l.Attacker.Addr4, lab.Protected4) + lab.Sent(packets, l.Attacker.Addr6, lab.Protected6)
	const fewest = 200 // packets of 24 scans, if nmap has really scanned
	if asked < fewest+sent {
		t.Errorf("silence proves nothing: only %d packets were sent", asked)
	}
}

// A drip is a session of an admitted client that continues while something else
// happens.
type drip struct {
	name string
	conn net.Conn
	done sync.WaitGroup

	mu    sync.Mutex
	lines int
	err   error
}

// drips begins a session at every endpoint.
func drips(t *testing.T, l *lab.Lab, all []endpoint) []*drip {
	t.Helper()
	var begun []*drip
	for _, endpoint := range all {
		conn, err := endpoint.enter(withTimeout(t, admitTime), alice(l.Client))
		if err != nil {
			t.Fatal(err)
		}
		d := &drip{name: endpoint.name, conn: conn}
		if _, err := fmt.Fprintf(conn, "drip %d\n", dripping); err != nil {
			t.Fatal(err)
		}
		d.done.Go(d.read)
		t.Cleanup(func() {
			_ = conn.Close()
			d.done.Wait()
		})
		begun = append(begun, d)
	}
	return begun
}

func (d *drip) read() {
	lines := bufio.NewScanner(d.conn)
	for lines.Scan() {
		d.mu.Lock()
		d.lines++
		d.mu.Unlock()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = lines.Err()
}

func (d *drip) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lines
}

// flows fails the test unless the session still brings lines.
func (d *drip) flows(t *testing.T) {
	t.Helper()
	before := d.count()
	for range 10 {
		time.Sleep(lab.DripInterval)
		if d.count() > before {
			return
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	t.Errorf("the session at %s has dried up after %d lines: %v", d.name, d.lines, d.err)
}

func TestSilenceToUnauthorizedHosts(t *testing.T) {
	t.Parallel()
	lab.RequireTools(t, "nmap")
	l := lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	all := hiddenEndpoints(s.Addr)
	site := l.NewSite(t, program.get(t), configuration(all...))

	gateway := site.Start(t)
	t.Run("before any session", func(t *testing.T) { silent(t, l) })
	t.Run("during the sessions of an admitted client", func(t *testing.T) {
		sessions := drips(t, l, all)
		silent(t, l)
		for _, d := range sessions {
			d.flows(t)
		}
	})
	t.Run("after its sessions", func(t *testing.T) {
		for _, d := range all {
			if err := d.visit(t.Context(), alice(l.Client), s.Greeting); err != nil {
				t.Error(err)
			}
		}
		silent(t, l)
	})
	t.Run("after an orderly stop", func(t *testing.T) {
		drips(t, l, all)
		gateway.Stop()
		silent(t, l)
	})
	t.Run("after a restart", func(t *testing.T) {
		site.Start(t)
		silent(t, l)
	})
}

func TestSilenceAfterCrash(t *testing.T) {
	t.Parallel()
	lab.RequireTools(t, "nmap")
	l := lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	all := hiddenEndpoints(s.Addr)
	site := l.NewSite(t, program.get(t), configuration(all...))
	gateway := site.Start(t)
	drips(t, l, all)
	gateway.Kill()
	silent(t, l)
}

// Starting, stopping and crashing have moments of their own: the device is
// there and the routes are not yet, or the other way round. An attacker that
// never stops asking meets them all.
func TestSilenceDuringRestarts(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	all := hiddenEndpoints(s.Addr)
	site := l.NewSite(t, program.get(t), configuration(all...))
	// Before the first start nothing is promised.
	site.Start(t).Stop()

	capture := l.Attacker.Capture(lab.Link)
	stop := keepInjecting(t, l.Attacker)
	for range 3 {
		site.Start(t).Stop()
		site.Start(t).Kill()
	}
	stop()
	l.Attacker.Silent(capture.Stop())
}

// keepInjecting injects oddPackets again and again until stop is called, which
// waits for the end.
func keepInjecting(t *testing.T, from *lab.Host) (stop func()) {
	t.Helper()
	odd := oddPackets(t, from)
	done := make(chan struct{})
	var injecting sync.WaitGroup
	injecting.Go(func() {
		for {
			for _, p := range odd {
				if err := from.Inject(p.dst, p.bytes); err != nil {
					t.Errorf("inject %s: %v", p.name, err)
				}
			}
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
	return func() {
		close(done)
		injecting.Wait()
	}
}
