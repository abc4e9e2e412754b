//go:build linux

package netns_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/knockgw/knockgw/test/netns/lab"
)

// The lab's silence is evidence only if it captures what is
// not silent.

func TestLabCarriesBothFamilies(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	for _, a := range []netip.Addr{l.Upstream.Addr4, l.Upstream.Addr6} {
		s := l.Upstream.ServeLines(netip.AddrPortFrom(a, 0).String())
		for _, h := range []*lab.Host{l.Client, l.Attacker} {
			conn, err := h.Dial(t.Context(), "tcp", s.Addr)
			if err != nil {
				t.Fatal(err)
			}
			if got := ask(t, conn, "hello"); got != s.Greeting {
				t.Errorf("%s asked %s and got %q", h.Name, s.Addr, got)
			}
			closeConn(t, conn)
		}
	}
}

func TestLabCapturesAnswer(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 0).String())
	capture := l.Attacker.Capture(lab.Link)
	conn, err := l.Attacker.Dial(t.Context(), "tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	closeConn(t, conn)
	if len(lab.Answers(capture.Stop(), l.Attacker.Addr4)) == 0 {
		t.Error("an answered connection left no answer in the capture")
	}
}

func TestLabCountsRetransmittedSYN(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	l.Upstream.MustRun("ip", "route", "add", "blackhole", "10.99.0.0/24")
	l.Gateway.MustRun("ip", "route", "add", "10.99.0.0/24", "via", l.Upstream.Addr4.String())
	capture := l.Client.Capture(lab.Link)
	_, err := l.Client.Dial(withTimeout(t, 1500*time.Millisecond), "tcp", "10.99.0.1:80")
	if err == nil {
		t.Fatal("a connection into a blackhole was answered")
	}
	if n := lab.RetransmittedSYNs(capture.Stop()); n != 1 {
		t.Errorf("%d SYNs were seen again in 1.5 s of silence, want 1", n)
	}
}

func TestLabInjectsRawPackets(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	capture := l.Upstream.Capture(lab.Link)
	for _, dst := range []netip.Addr{l.Upstream.Addr4, l.Upstream.Addr6} {
		src := l.Attacker.Addr(dst)
		if err := l.Attacker.Inject(dst, rawIP(t, src, dst, layers.IPProtocol(253), []byte("odd"))); err != nil {
			t.Fatal(err)
		}
	}
	packets := capture.Stop()
	for _, prefix := range []string{"10.1.3.2/32", "fd01:3::2/128"} {
		to := netip.MustParsePrefix(prefix)
		if lab.Sent(packets, l.Attacker.Addr(to.Addr()), to) != 1 {
			t.Errorf("a packet of protocol 253 to %v did not arrive", to)
		}
	}
}

func TestNmapSeesOpenPort(t *testing.T) {
	t.Parallel()
	lab.RequireTools(t, "nmap")
	l := lab.New(t)
	for _, a := range []netip.Addr{l.Upstream.Addr4, l.Upstream.Addr6} {
		l.Upstream.ServeLines(netip.AddrPortFrom(a, 8443).String())
		s := scan{flags: []string{"-sS"}, v6: a.Is6()}
		states := s.run(t, l.Attacker, a)
		if !states["open"] || !states["closed"] {
			t.Errorf("nmap found only %v on a host with an open port", states)
		}
	}
}

// Not in parallel with others, whose threads are away for as long as they dial.
func TestLabThreadsReturnHome(t *testing.T) {
	l := lab.New(t)
	for range 50 {
		l.Client.MustRun("true")
	}
	if inside := strings.TrimSpace(l.Client.MustRun("readlink", "/proc/self/ns/net")); inside == home {
		t.Error("a program of the lab ran outside of it")
	}
	// Go takes a moment to hand its threads around.
	for range 100 {
		away := 0
		threads, err := filepath.Glob("/proc/self/task/*/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range threads {
			if ns, err := os.Readlink(link); err == nil && ns != home {
				away++
			}
		}
		if away == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error("threads stayed in foreign namespaces")
}

func TestLabHostUsesFirstAddress(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	for _, a := range []netip.Addr{l.Upstream.Addr4, l.Upstream.Addr6} {
		s := l.Upstream.ServeLines(netip.AddrPortFrom(a, 0).String())
		for _, from := range []netip.Addr{{}, l.Client.Other(a)} {
			conn, err := l.Client.DialFrom(t.Context(), from, "tcp", s.Addr)
			if err != nil {
				t.Fatal(err)
			}
			want := from
			if !want.IsValid() {
				want = l.Client.Addr(a)
			}
			if got := netip.MustParseAddrPort(conn.LocalAddr().String()).Addr(); got != want {
				t.Errorf("the client spoke from %v, want %v", got, want)
			}
			closeConn(t, conn)
		}
	}
}
