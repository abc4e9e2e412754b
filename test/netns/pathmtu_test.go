//go:build linux

package netns_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	narrowMTU = 1400
	// narrowLines makes a reply of 1.1 MB.
	narrowLines = 30_000
	// narrowTime is how long it may take: some retransmission timeouts, and what
	// a loaded machine adds.
	narrowTime = 15 * time.Second
)

// narrow puts a hop between the client and the gateway that carries no packet
// larger than narrowMTU, in both families:
//
//	client --far4, far6-- hop --near4, near6-- gateway -- upstream
//
// The returned function takes it away and returns how many packets of each
// direction were too large.
func narrow(t *testing.T, l *lab.Lab, tells bool) func() [2]int {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var (
		all    sync.WaitGroup
		mu     sync.Mutex
		tooBig [2]int
	)
	for _, w := range []struct{ family, client, gateway string }{
		{"4", "10.1.9.2/24", "10.1.9.1/24"}, {"6", "fd01:9::2/64", "fd01:9::1/64"},
	} {
		devices := [2]*os.File{
			l.Client.Device("far"+w.family, netip.MustParsePrefix(w.client)),
			l.Gateway.Device("near"+w.family, netip.MustParsePrefix(w.gateway)),
		}
		wire := lab.Wire{Rate: lossRate, Queue: lossQueue, MTU: narrowMTU, Tells: tells}
		all.Go(func() {
			carried, err := wire.Carry(ctx, devices)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			for i := range tooBig {
				tooBig[i] += carried[i].TooBig
			}
		})
	}
	l.Client.Route(lab.Protected4, "far4", "")
	l.Client.Route(lab.Protected6, "far6", "")
	end := func() [2]int {
		cancel()
		all.Wait()
		return tooBig
	}
	t.Cleanup(func() { end() })
	return end
}

func TestTransfersPassNarrowHop(t *testing.T) {
	for name, own := range map[string][]string{"routes": {"10.77.0.1", "fd77::1"}, "local": {"10.1.9.1", "fd01:9::1"}} {
		for _, tells := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, ICMP %v", name, tells), func(t *testing.T) {
				l := lab.New(t)
				end := narrow(t, l, tells)
				s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
				var all []endpoint
				for i, a := range own {
					all = append(all, endpoint{name: []string{"v4", "v6"}[i], mode: "knock-auth", upstream: s.Addr,
						listen: netip.AddrPortFrom(netip.MustParseAddr(a), hiddenPort)})
				}
				if name == "local" {
					l.TUN = fmt.Sprintf("  local: [%q, %q]\n", all[0].listen, all[1].listen)
				}
				l.NewSite(t, program.get(t), configuration(all...)).Start(t)
				for _, d := range all {
					t.Run(d.name, func(t *testing.T) {
						throughNarrow(t, l, d, tells)
					})
				}
				if n := end(); n[1] == 0 {
					t.Error("no packet of the gateway was too large: nothing was tried")
				} else {
					t.Logf("packets that were too large: %d of the client, %d of the gateway", n[0], n[1])
				}
			})
		}
	}
}

// throughNarrow downloads, and uploads too if the client's kernel is told.
func throughNarrow(t *testing.T, l *lab.Lab, d endpoint, up bool) {
	t.Helper()
	conn, err := d.enter(withTimeout(t, admitTime), alice(l.Client))
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(t, conn)
	begin := time.Now()
	if err := conn.SetDeadline(begin.Add(narrowTime)); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("whole %d\n", narrowLines)
	if up {
		text += strings.Repeat(lab.ReplyLine, narrowLines)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil {
		t.Errorf("the reply broke off after %d bytes: %v", len(got), err)
	}
	if want := strings.Repeat(lab.ReplyLine, narrowLines); string(got) != want {
		t.Errorf("the reply has %d bytes, want %d, and they are not the same", len(got), len(want))
	}
	t.Logf("%d bytes after %v", len(got), time.Since(begin))
}
