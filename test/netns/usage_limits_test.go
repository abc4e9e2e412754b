//go:build linux

package netns_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/knockgw/knockgw/internal/testtool"
	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	// attackersMemory is what attackers may take of the gateway's memory in
	// all: 16,384 half-open flows of an open service at 20 KiB each, which is
	// 320 MiB, and the tables of sources.
	attackersMemory = 400 << 20
	// againMemory is how much more a second attack like the first may take,
	// which finds every table filled already: what the garbage collector
	// happens to leave.
	againMemory = 48 << 20
	// attackersFiles is how many descriptors attackers may cost: theirs take
	// none; a scrape takes one, and so does a command at the control socket.
	attackersFiles = 8

	// attackersGoroutines is how many goroutines may be left of it all: those
	// of a scrape and of visits that have just ended.
	attackersGoroutines = 20
	// shown is what part of a limit is worth a line.
	shown = 0.1

	// sampleEvery is how often the gateway is looked at during an attack.
	sampleEvery = 50 * time.Millisecond
	// scanSlice is how long one form of packet is sent before it is another's
	// turn.
	scanSlice = 200 * time.Millisecond
	// onslaughtTime is how long that many packets may take.
	onslaughtTime = 5 * time.Minute
	// dialing is how many connections are begun at a time: each keeps a thread
	// meanwhile.
	dialing = 64
)

// An attackSize is what attackers do to a gateway.
type attackSize struct {
	packets     int // of a scan, in both ways of refusing them
	sources     int // that knock and begin handshakes, each of its own address
	connections int // to an open service, all without authentication
}

func fullAttack() attackSize {
	return attackSize{packets: 10_000_000, sources: 100_000, connections: 20_000}
}

// attackedGateway is a gateway under attack, and its peak usage.
type attackedGateway struct {
	*lab.Lab

	gateway    *lab.Gateway
	open       endpoint
	greeting   string
	memory     int // bytes, anonymous
	files      int
	goroutines float64
	fullest    map[string]float64 // the highest used part of each limit
}

// Memory and descriptors have bounds whatever attackers do, and the same done
// again takes no more.
func TestGatewayBoundsUnauthorizedUsage(t *testing.T) {
	testtool.RequireLong(t, "sends ten million packets")
	for _, filter := range []string{"auto", "off"} {
		t.Run("filter "+filter, func(t *testing.T) {
			l := lab.New(t)
			l.TUN = "  filter: " + filter + "\n"
			l.AnySource()
			s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
			open := endpoint{name: "open", mode: "auth", listen: netip.MustParseAddrPort("10.77.0.1:8001"), upstream: s.Addr}
			hidden := endpoint{name: "hidden", mode: "knock-auth", listen: netip.MustParseAddrPort("10.77.0.1:8002"), upstream: s.Addr}
			b := &attackedGateway{Lab: l, open: open, greeting: s.Greeting, gateway: l.NewSite(t, program.get(t), configuration(open, hidden)).Start(t), fullest: make(map[string]float64)}
			for _, d := range []endpoint{open, hidden} {
				if err := d.visit(t.Context(), alice(l.Client), s.Greeting); err != nil {
					t.Fatal(err)
				}
			}
			b.sample(t)
			memory, files, goroutines := b.memory, b.files, b.goroutines
			t.Logf("before: %d MiB, %d descriptors, %.0f goroutines", memory>>20, files, b.goroutines)

			b.attack(t, fullAttack())
			first := b.memory
			if first-memory > attackersMemory {
				t.Errorf("attackers took %d MiB, and may take %d", (first-memory)>>20, attackersMemory>>20)
			}
			defer b.afterwards(t, files, goroutines, open, hidden)
			b.attack(t, fullAttack())
			if b.memory-first > againMemory {
				t.Errorf("once more, they took %d MiB more", (b.memory-first)>>20)
			}
		})
	}
}

// afterwards checks what an attack leaves behind: no descriptors, and endpoints
// that open.
func (b *attackedGateway) afterwards(t *testing.T, files int, goroutines float64, endpoints ...endpoint) {
	t.Helper()
	if b.files-files > attackersFiles {
		t.Errorf("attackers took %d descriptors", b.files-files)
	}
	time.Sleep(authDeadline)
	for _, d := range endpoints {
		if err := d.visit(t.Context(), alice(b.Client), b.greeting); err != nil {
			t.Error(err)
		}
	}
	for of, part := range b.fullest {
		if part > shown {
			t.Logf("of %s at most %.0f %% was used", strings.TrimSuffix(of, "}"), 100*part)
		}
	}
	b.memory, b.files, b.goroutines = 0, 0, 0
	b.sample(t)
	t.Logf("after: %d MiB, %d descriptors, %.0f goroutines", b.memory>>20, b.files, b.goroutines)
	if b.goroutines > goroutines+attackersGoroutines {
		t.Errorf("of %.0f goroutines there are %.0f after it all", goroutines, b.goroutines)
	}
}

// attack does all of it, one after the other.
func (b *attackedGateway) attack(t *testing.T, o attackSize) {
	t.Helper()
	for _, part := range []struct {
		name string
		do   func(ctx context.Context) (int, error)
	}{
		{"packets of a scan", func(ctx context.Context) (int, error) { return b.scan(ctx, o.packets) }},
		{"packets of many sources", func(ctx context.Context) (int, error) { return b.crowd(ctx, o.sources) }},
		{"connections", func(ctx context.Context) (int, error) { return b.connect(ctx, o.connections) }},
	} {
		began, before := time.Now(), b.memory
		n := b.during(t, part.do)
		t.Logf("%d %s in %v: at most %d MiB (before: %d), %d descriptors, %.0f goroutines", n, part.name,
			time.Since(began).Round(time.Millisecond), b.memory>>20, before>>20, b.files, b.goroutines)
	}
}

// during does a part of an attack and looks at the gateway all the while.
func (b *attackedGateway) during(t *testing.T, do func(ctx context.Context) (int, error)) (n int) {
	t.Helper()
	var (
		acting errgroup.Group
		over   = make(chan struct{})
	)
	acting.Go(func() (err error) {
		defer close(over)
		n, err = do(t.Context())
		return err
	})
	for tick := time.NewTicker(sampleEvery); ; {
		b.sample(t)
		select {
		case <-tick.C:
			continue
		case <-over:
			tick.Stop()
		}
		break
	}
	if err := acting.Wait(); err != nil {
		t.Fatal(err)
	}
	b.sample(t)
	return n
}

// sample notes what the gateway has now, and fails the test where a table is
// larger than its limit.
func (b *attackedGateway) sample(t *testing.T) {
	t.Helper()
	b.memory = max(b.memory, b.gateway.Memory().Anonymous)
	b.files = max(b.files, b.gateway.Descriptors())
	m := b.gateway.Metrics()
	b.goroutines = max(b.goroutines, m["go_goroutines"])
	tables := 0
	for sample, limit := range m {
		of, ok := strings.CutPrefix(sample, "knockgw_resource_limit{resource=")
		if !ok {
			continue
		}
		tables++
		if has, ok := m["knockgw_resource_used{resource="+of]; !ok || has > limit || limit <= 0 {
			t.Errorf("%s is %v of %v (%v)", of, has, limit, ok)
		}
		b.fullest[of] = max(b.fullest[of], m["knockgw_resource_used{resource="+of]/limit)
	}
	if tables == 0 {
		t.Fatal("the metrics have no limits")
	}
}

// scan sends packets of every form from everywhere to any port, and returns how
// many of them were judged: a device's queue has room for so many.
func (b *attackedGateway) scan(ctx context.Context, packets int) (judged int, err error) {
	anywhere := netip.AddrPortFrom(b.open.listen.Addr(), 0)
	ctx, cancel := context.WithTimeout(ctx, onslaughtTime)
	defer cancel()
	before := refusedPackets(b.gateway)
	for i := 0; judged < packets && err == nil; i++ {
		if ctx.Err() != nil {
			return judged, fmt.Errorf("after %v only %d of %d packets were judged", onslaughtTime, judged, packets)
		}
		slice, stop := context.WithTimeout(ctx, scanSlice)
		_, err = b.Attacker.Flood(slice, lab.Junk{Form: lab.Form(i % (int(lab.JunkIllFormed) + 1)), To: anywhere}, 0)
		stop()
		judged = int(refusedPackets(b.gateway) - before)
	}
	return judged, err
}

// crowd sends from that many sources a SYN to an open service and what could be
// a knock of either version, each.
func (b *attackedGateway) crowd(ctx context.Context, sources int) (sent int, err error) {
	var all []netip.Addr
	for i := range sources {
		all = append(all, netip.AddrFrom4([4]byte{198, byte(18 + i>>16), byte(i >> 8), byte(i)}))
	}
	knocks := netip.AddrPortFrom(b.open.listen.Addr(), knockPort)
	const perSecond = 50_000 // slowly enough for the device's queue
	for _, junk := range []lab.Junk{
		{Form: lab.JunkSYN, To: b.open.listen, Sources: all},
		{Form: lab.JunkV1, To: knocks, Sources: all},
		{Form: lab.JunkV2, To: knocks, Sources: all},
	} {
		turn, stop := context.WithTimeout(ctx, time.Duration(sources)*time.Second/perSecond*11/10)
		n, err := b.Attacker.Flood(turn, junk, perSecond)
		stop()
		if sent += n; err != nil {
			return sent, err
		}
		if n < sources {
			return sent, fmt.Errorf("only %d of %d sources sent a packet", n, sources)
		}
	}
	return sent, nil
}

// connect opens connections to an open service, says something to each and
// holds it until the gateway ends it. It returns how many were opened.
func (b *attackedGateway) connect(ctx context.Context, connections int) (opened int, err error) {
	var (
		begun   atomic.Int64
		holding sync.WaitGroup
		dials   errgroup.Group
	)
	dials.SetLimit(dialing)
	from := []netip.Addr{b.Attacker.Addr4, b.Attacker.Other4}
	for i := range connections {
		dials.Go(func() error {
			soon, stop := context.WithTimeout(ctx, refuseTime)
			defer stop()
			conn, err := b.Attacker.DialFrom(soon, from[i%len(from)], "tcp", b.open.listen.String())
			if err != nil {
				if timedOut(err) || errors.Is(err, unix.ECONNRESET) {
					return nil // refused, as some are to be: there is a limit for a source, and the oldest have to go
				}
				return err
			}
			begun.Add(1)
			holding.Go(func() { wearOut(conn) })
			return nil
		})
	}
	err = dials.Wait()
	holding.Wait()
	return int(begun.Load()), err
}

// wearOut says something to a service that answers attackers and waits until
// that has had enough.
func wearOut(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	if conn.SetDeadline(time.Now().Add(authDeadline+answerTime)) != nil {
		return
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\n"); err == nil {
		_, _ = io.Copy(io.Discard, conn)
	}
}
