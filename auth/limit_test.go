package auth

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func limiter(t *testing.T, r Rate) *RateLimiter {
	t.Helper()
	l, err := NewRateLimiter(r)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// allowed returns how many of n connections at once are allowed.
func allowed(l *RateLimiter, from string, n int) (count int) {
	for range n {
		if l.Allow(netip.MustParseAddr(from)) {
			count++
		}
	}
	return count
}

func TestRateLimiterAllowsBurstThenRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limiter(t, Rate{PerSecond: 2, Burst: 5})
		for _, step := range []struct {
			pause time.Duration
			want  int
		}{
			{0, 5}, {499 * time.Millisecond, 0}, {time.Millisecond, 1}, {time.Second, 2},
			{2499 * time.Millisecond, 4}, {time.Hour, 5}, {0, 0}, {2500 * time.Millisecond, 5},
		} {
			time.Sleep(step.pause)
			if got := allowed(l, "192.0.2.1", 100); got != step.want {
				t.Errorf("after %v: %d of 100, want %d", step.pause, got, step.want)
			}
			if step.pause == 0 && step.want == 5 {
				if got := allowed(l, "192.0.2.2", 100); got != 5 {
					t.Errorf("a neighbour has %d", got)
				}
			}
		}
	})
}

func TestRateLimiterCountsIPv6BySubnet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limiter(t, Rate{PerSecond: 1, Burst: 4})
		if got := allowed(l, "2001:db8:1:2::1", 3) + allowed(l, "2001:db8:1:2:ffff::2", 3); got != 4 {
			t.Errorf("%d from one /64", got)
		}
		if got := allowed(l, "2001:db8:1:3::1", 5); got != 4 {
			t.Errorf("%d from the next", got)
		}
	})
}

func TestRateLimiterSharesBucketWhenFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limiter(t, Rate{PerSecond: 1, Burst: 2, Sources: 10})
		count := 0
		from := netip.MustParseAddr("198.51.100.0")
		for range 200 {
			if l.Allow(from) {
				count++
			}
			from = from.Next()
		}
		if want := 10 + 2; count != want {
			t.Errorf("%d of 200 sources, want %d", count, want)
		}
		if n := len(l.cur) + len(l.prev); n > 20 {
			t.Errorf("%d sources are remembered", n)
		}
		time.Sleep(4 * time.Second)
		if got := allowed(l, "192.0.2.1", 3); got != 2 {
			t.Errorf("after the flood a newcomer has %d", got)
		}
	})
}

func TestNewRateLimiterChecksRate(t *testing.T) {
	for _, r := range []Rate{{}, {PerSecond: -1}, {PerSecond: 1e-12}, {PerSecond: 1e12}, {PerSecond: 1, Burst: -1}, {PerSecond: 1, Sources: -1}} {
		if _, err := NewRateLimiter(r); !errors.Is(err, ErrOptions) {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

// from is a connection with a given remote address.
type from struct {
	net.Conn
	addr net.Addr
}

func (f from) RemoteAddr() net.Addr { return f.addr }

func TestRemoteAddr(t *testing.T) {
	for want, addr := range map[string]net.Addr{
		"192.0.2.1":   &net.TCPAddr{IP: net.ParseIP("::ffff:192.0.2.1"), Port: 1},
		"fe80::1":     &net.TCPAddr{IP: net.ParseIP("fe80::1"), Port: 1, Zone: "eth0"},
		"2001:db8::1": text("[2001:db8::1]:1"),
		"192.0.2.2":   text("[::ffff:192.0.2.2]:1"),
		"invalid IP":  &net.UnixAddr{Name: "@", Net: "unix"},
	} {
		if got := remoteAddr(from{addr: addr}).String(); got != want {
			t.Errorf("%v: %s, want %s", addr, got, want)
		}
	}
	if got := remoteAddr(from{}); got.IsValid() {
		t.Errorf("no address: %v", got)
	}
}

// text is an address type of another package.
type text string

func (text) Network() string  { return "tcp" }
func (a text) String() string { return string(a) }

func TestListenerResetsLimitedSourceUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := newPipeListener()
		var mu sync.Mutex
		var results []Result
		l := NewListener(inner, &Server{Port: testPort}, ListenerOptions{
			Limit: limiter(t, Rate{PerSecond: 1, Burst: 2}),
			Report: func(e Event) {
				mu.Lock()
				defer mu.Unlock()
				results = append(results, e.Result)
				if e.Result == ResultLimited && (e.Took != 0 || ResultOf(e.Err) != ResultLimited || e.Conn == nil) {
					t.Errorf("%+v", e)
				}
			},
		})
		start := time.Now()
		for i := range 4 {
			conn, err := inner.DialContext(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if i < 2 {
				continue
			}
			if n, err := conn.Read(make([]byte, 1)); n != 0 || err != io.EOF || time.Since(start) != 0 {
				t.Errorf("%d, %v after %v", n, err, time.Since(start))
			}
		}
		if n := l.InFlight(); n != 2 {
			t.Errorf("%d in flight", n)
		}
		time.Sleep(DefaultDeadline + time.Second)
		synctest.Wait()
		if n := l.InFlight(); n != 0 {
			t.Errorf("%d in flight", n)
		}
		_ = l.Close()
		if want := []Result{ResultLimited, ResultLimited, ResultTimeout, ResultTimeout}; !slices.Equal(results, want) {
			t.Errorf("%v", results)
		}
	})
}

func TestListenerMaxPerSource(t *testing.T) {
	alice := identity(t, "alice")
	synctest.Test(t, func(t *testing.T) {
		inner := newPipeListener()
		limited := 0
		l := NewListener(inner, &Server{Port: testPort, Clients: clients(alice)}, ListenerOptions{
			MaxPerSource: 2,
			Report: func(e Event) {
				if e.Result == ResultLimited {
					limited++ // one goroutine's
				}
			},
		})
		for range 5 {
			conn, err := inner.DialContext(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
		}
		time.Sleep(DefaultDeadline + time.Second)
		d := Dialer{Client: &Client{Identity: alice, Port: testPort}, Dial: inner.DialContext}
		for range 3 { // one after the other, each accepted before the next
			conn, err := d.DialContext(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			accepted, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			_ = conn.Close()
			_ = accepted.Close()
		}
		_ = l.Close()
		if limited != 3 || len(l.sources.counts) != 0 {
			t.Errorf("%d refused, %v still held", limited, l.sources.counts)
		}
	})
}

func TestEventReportsClientAndClockOffset(t *testing.T) {
	alice := identity(t, "alice")
	synctest.Test(t, func(t *testing.T) {
		inner := newPipeListener()
		events := make(chan Event, 2)
		l := NewListener(inner, &Server{Port: testPort, Clients: clients(alice)}, ListenerOptions{Report: func(e Event) { events <- e }})
		defer l.Close()
		for _, test := range []struct {
			off  time.Duration
			want Result
		}{{-2 * time.Second, ResultOK}, {time.Minute, ResultStale}} {
			d := Dialer{Dial: inner.DialContext, Client: &Client{
				Identity: alice, Port: testPort, Now: func() time.Time { return time.Now().Add(test.off) },
			}}
			conn, err := d.DialContext(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			e := <-events
			if e.Result != test.want || e.Client != alice || e.ClockOffset != test.off {
				t.Errorf("%+v", e)
			}
			if ok := e.Result == ResultOK; ok != (e.Peer.Client == alice) || ok != (e.Err == nil) || ok != (e.Took == 0) {
				t.Errorf("%+v", e)
			}
			_ = conn.Close()
			if e.Result == ResultOK {
				accepted, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				_ = accepted.Close()
			}
		}
	})
}
