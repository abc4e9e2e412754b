//go:build linux

package netns_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	// talkPause is between two words of an upstream's that never stops talking:
	// whatever it still says to a client after a revocation would be seen at
	// once.
	talkPause = 2 * time.Millisecond
	// quietFor is for how long it is looked whether a session that is over
	// stays so.
	quietFor = 250 * time.Millisecond
)

// A talker is an upstream that is told a name first, talks from then on, and
// notes when the connection of that name has ended.
type talker struct {
	addr string

	mu    sync.Mutex
	ended map[string]chan time.Time
}

// over is where the end of a connection will be said.
func (k *talker) over(name string) chan time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended[name] == nil {
		k.ended[name] = make(chan time.Time, 1)
	}
	return k.ended[name]
}

// serveTalk starts a talker on the upstream, until the test ends.
func serveTalk(t *testing.T, l *lab.Lab) *talker {
	t.Helper()
	listener := l.Upstream.Listen("tcp", netip.AddrPortFrom(l.Upstream.Addr4, 7007).String())
	k := &talker{addr: listener.Addr().String(), ended: make(map[string]chan time.Time)}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed with the test
			}
			all.Go(func() { k.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		all.Wait()
	})
	return k
}

func (k *talker) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	in := bufio.NewReader(conn)
	name, err := in.ReadString('\n')
	if err != nil {
		return
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, in)
		k.over(strings.TrimSpace(name)) <- time.Now()
	}()
	for {
		select {
		case <-ended:
			return
		case <-time.After(talkPause):
			_, _ = io.WriteString(conn, "and another thing\n") // the end shows in what is read
		}
	}
}

// begin has a peer enter an endpoint and be talked to.
func (k *talker) begin(t *testing.T, d endpoint, v lab.Peer, name string) net.Conn {
	t.Helper()
	conn, err := d.enter(withTimeout(t, admitTime), v)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintln(conn, name); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// Whatever names it, a session that is revoked is over within a second at its
// upstream and reset at its client, from the moment at which the operator has
// pressed the key. All other sessions continue.
func TestRevocationTakesEffectWithinSecond(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	k := serveTalk(t, l)
	office := endpoint{name: "office", mode: "knock-auth", listen: netip.MustParseAddrPort("10.77.0.1:22"), upstream: k.addr}
	archive := endpoint{name: "archive", mode: "knock", listen: netip.MustParseAddrPort("[fd77::1]:22"), upstream: k.addr}
	text := strings.Replace(configuration(office, archive), "  - {id: bob", fmt.Sprintf("  - {id: carol, secret: %q}\n  - {id: bob", carolSecret), 1)
	site := l.NewSite(t, program.get(t), text)
	site.Start(t)
	bystander := k.begin(t, archive, carol(l.Attacker), "bystander")
	defer closeConn(t, bystander)
	for _, test := range []struct {
		by       string
		endpoint endpoint
		args     func(conn net.Conn) []string
	}{
		{"client", office, func(net.Conn) []string { return []string{"--client", "alice"} }},
		{"client without authentication", archive, func(net.Conn) []string { return []string{"--client", "alice"} }},
		{"service", office, func(net.Conn) []string { return []string{"--service", "office"} }},
		{"source", office, func(net.Conn) []string { return []string{"--source", l.Client.Addr4.String()} }},
		{"network", archive, func(net.Conn) []string { return []string{"--source", "fd01:1::/64"} }},
		{"flow", office, func(c net.Conn) []string { return []string{"--flow", c.LocalAddr().String()} }},
		{"client, service and source", archive, func(net.Conn) []string {
			return []string{"--client", "alice", "--service", "archive", "--source", l.Client.Addr6.String()}
		}},
	} {
		t.Run(test.by, func(t *testing.T) {
			conn := k.begin(t, test.endpoint, alice(l.Client), test.by)
			defer func() { _ = conn.Close() }()
			tap := l.Client.Capture(lab.Link)
			began := time.Now()
			out, err := site.Knockgw(withTimeout(t, answerTime), "revoke", test.args(conn)...)
			returned := time.Now()
			if err != nil || !strings.HasPrefix(out, "1 flow ") {
				t.Fatalf("revoke says %v\n%s", err, out)
			}
			select {
			case ended := <-k.over(test.by):
				t.Logf("the upstream saw the end after %v, the command returned after %v", ended.Sub(began).Round(time.Microsecond*10),
					returned.Sub(began).Round(time.Microsecond*10))
				if took := ended.Sub(began); took > revokeTime {
					t.Errorf("the session was over after %v", took)
				}
			case <-time.After(answerTime):
				t.Fatal("the session goes on")
			}
			if err := conn.SetReadDeadline(began.Add(revokeTime)); err != nil {
				t.Error(err)
			}
			if _, err := io.Copy(io.Discard, conn); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the client was not told of the end: %v", err)
			}
			_, _ = conn.Write([]byte("is the session alive\n"))
			time.Sleep(time.Until(began.Add(revokeTime + quietFor)))
			said := lab.Answers(tap.Stop(), l.Client.Addr4, l.Client.Addr6)
			if len(said) == 0 {
				t.Error("silence proves nothing: the upstream had said nothing before")
			}
			for _, p := range said {
				if p.Time.After(began.Add(revokeTime)) && (p.TCP() == nil || !p.TCP().RST) {
					t.Errorf("%v after the command the client was told\n%v", p.Time.Sub(began), p)
					break
				}
			}
			if last := len(said) - 1; last >= 0 {
				t.Logf("the last packet to the client was seen after %v", said[last].Time.Sub(began).Round(time.Microsecond*10))
			}
		})
	}
	if _, err := io.ReadFull(bystander, make([]byte, 1<<10)); err != nil {
		t.Errorf("the session of another client: %v", err)
	}

	t.Run("grant", func(t *testing.T) {
		v := alice(l.Client)
		if err := v.Knock(t.Context(), archive.listen, nil); err != nil {
			t.Fatal(err)
		}
		var out string
		for range answerTime / time.Millisecond { // until the knock is decided
			var err error
			if out, err = site.Knockgw(withTimeout(t, answerTime), "revoke", "--grants-only", "--client", "alice"); err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(out, "0 flows and 0 ") {
				break
			}
		}
		if !strings.HasPrefix(out, "0 flows and 1 grant") {
			t.Errorf("revoke says %s", out)
		}
		archive.assertShut(t, v, nil)
		if _, err := io.ReadFull(bystander, make([]byte, 1<<10)); err != nil {
			t.Errorf("the session of another client: %v", err)
		}
	})
}
