//go:build linux

package bench_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	benchVariable = "KNOCKGW_BENCH"

	rounds        = 4
	streamSeconds = 3
	warmupSeconds = 1 // not counted: the windows open in it
	startTime     = 10 * time.Second
	streamTime    = 30 * time.Second

	iperfPort = 5201
	knockPort = 62201
	secret    = "alice's secret, thirty-two bytes"
)

// A proxy is one of the two ways to the iperf3 server.
type proxy struct {
	name   string
	target netip.AddrPort
	up     []float64 // Gb/s, client to upstream, one for each round
	down   []float64
}

func TestThroughput(t *testing.T) {
	if os.Getenv(benchVariable) != "1" {
		t.Skipf("set %s=1 to measure", benchVariable)
	}
	lab.RequireTools(t, "iperf3", "haproxy")
	l := lab.New(t)
	build, err := lab.NewBuild()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := build.Remove(); err != nil {
			t.Error(err)
		}
	})
	server := netip.AddrPortFrom(l.Upstream.Addr4, iperfPort)
	l.Upstream.Start("iperf3", "--server", "--port", strconv.Itoa(iperfPort))
	proxies := []*proxy{
		{name: "knockgw", target: knockgw(t, l, build, server)},
		{name: "HAProxy", target: haproxy(t, l, server)},
	}
	for range rounds {
		for _, p := range proxies {
			await(t, l, p.target)
			p.up = append(p.up, stream(t, l, p.target))
			p.down = append(p.down, stream(t, l, p.target, "--reverse"))
		}
	}
	table(proxies[0], proxies[1])
}

// knockgw starts the gateway before the server and knocks once for all the streams.
func knockgw(t *testing.T, l *lab.Lab, build *lab.Build, server netip.AddrPort) netip.AddrPort {
	t.Helper()
	service := netip.MustParseAddrPort(fmt.Sprintf("10.77.0.1:%d", iperfPort))
	// iperf3 makes two connections for a stream, and waiting for the server makes one more.
	l.NewSite(t, build, fmt.Sprintf(`knock: {udp_port: %d}
clients: [{id: alice, secret: %q}]
services:
  - name: iperf3
    listen: %s
    upstream: %s
    mode: knock
    knock: [udp]
    grant: {ttl: 10m, uses: 100}
`, knockPort, secret, service, server)).Start(t)
	v := lab.Visitor{Host: l.Client, ID: "alice", Secret: []byte(secret), KnockPort: knockPort}
	if err := v.Knock(t.Context(), service, nil); err != nil {
		t.Fatal(err)
	}
	return service
}

// haproxy starts HAProxy with nothing tuned.
func haproxy(t *testing.T, l *lab.Lab, server netip.AddrPort) netip.AddrPort {
	t.Helper()
	listen := netip.MustParseAddrPort("10.1.1.1:5202")
	path := filepath.Join(t.TempDir(), "haproxy.cfg")
	config := fmt.Sprintf(`defaults
  mode tcp
  timeout connect 5s
  timeout client 5m
  timeout server 5m
listen iperf3
  bind %s
  server upstream %s
`, listen, server)
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	l.Gateway.Start("haproxy", "-db", "-f", path)
	return listen
}

// await waits until a connection to the target gets through.
func await(t *testing.T, l *lab.Lab, target netip.AddrPort) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTime)
	defer cancel()
	for {
		conn, err := l.Client.Dial(ctx, "tcp", target.String())
		if err == nil {
			// iperf3 takes a moment to see that this was nobody.
			_ = conn.Close()
			time.Sleep(100 * time.Millisecond)
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("nobody answers at %v: %v", target, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// stream measures one stream and returns what arrived, in Gb/s.
func stream(t *testing.T, l *lab.Lab, target netip.AddrPort, flags ...string) float64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), streamTime)
	defer cancel()
	args := append([]string{"--client", target.Addr().String(), "--port", strconv.Itoa(int(target.Port())),
		"--time", strconv.Itoa(streamSeconds), "--omit", strconv.Itoa(warmupSeconds), "--json"}, flags...)
	out, err := l.Client.Run(ctx, "iperf3", args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var result struct {
		End struct {
			Received struct {
				BitsPerSecond float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		t.Fatalf("read iperf3's report: %v\n%s", err, out)
	}
	return result.End.Received.BitsPerSecond / 1e9
}

// table prints the medians and their ratio, and every round, so that the spread can be seen.
func table(ours, theirs *proxy) {
	fmt.Printf("\nOne TCP stream, Gb/s, median of %d rounds of %d s in turns; %d CPUs.\n\n", rounds, streamSeconds,
		runtime.NumCPU())
	fmt.Printf("| direction | %s | %s | ratio | rounds, %s | rounds, %s |\n", ours.name, theirs.name, ours.name,
		theirs.name)
	fmt.Println("|---|---:|---:|---:|---|---|")
	for _, row := range []struct {
		name         string
		ours, theirs []float64
	}{
		{"client to upstream", ours.up, theirs.up},
		{"upstream to client", ours.down, theirs.down},
	} {
		a, b := median(row.ours), median(row.theirs)
		fmt.Printf("| %s | %.2f | %.2f | %.2f | %s | %s |\n", row.name, a, b, a/b, list(row.ours), list(row.theirs))
	}
	fmt.Println()
}

func list(values []float64) string {
	s := ""
	for i, v := range values {
		if i > 0 {
			s += " "
		}
		s += fmt.Sprintf("%.2f", v)
	}
	return s
}

func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}
