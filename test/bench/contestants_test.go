//go:build linux

package bench_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/knockgw/knockgw/test/bench/load"
	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	// The contestants, as the tables call them.
	ours   = "knockgw"
	theirs = "HAProxy"
	direct = "direct" // through the gateway's kernel, by no proxy

	startTime = 10 * time.Second
	startPoll = 20 * time.Millisecond

	// servicePort is the upstream's port, and that of knockgw's service in
	// front of it.
	servicePort = 5201
	// oncePort is the port of a service in front of the same upstream that
	// wants a knock for each connection.
	oncePort = 5202
	// haproxyPort is where HAProxy listens, on the gateway's own address.
	haproxyPort = 5203
	knockPort   = 62201

	alice  = "alice"
	secret = "alice's secret, thirty-two bytes"
)

var (
	knockgwService = netip.MustParseAddrPort(fmt.Sprintf("10.77.0.1:%d", servicePort))
	onceService    = netip.MustParseAddrPort(fmt.Sprintf("10.77.0.1:%d", oncePort))
	haproxyService = netip.MustParseAddrPort(fmt.Sprintf("10.1.1.1:%d", haproxyPort))
)

// A contestant is one of the ways from the client to the upstream.
type contestant struct {
	name   string
	target netip.AddrPort
	proxy  *lab.Process // nil where there is none
}

// site is a lab with knockgw and HAProxy on the gateway, in front of the same
// upstream.
type site struct {
	*lab.Lab
	upstream netip.AddrPort
	gateway  *lab.Gateway
	haproxy  *lab.Process
}

// newSite starts both before an upstream that is there already.
func (b *bench) newSite(t *testing.T, l *lab.Lab) *site {
	t.Helper()
	s := &site{Lab: l, upstream: upstreamOf(l)}
	s.gateway = l.NewSite(t, b.build, fmt.Sprintf(`knock: {udp_port: %d}
limits: {flows_per_client: 65536, flows_per_source: 65536}
clients: [{id: %s, secret: %q}]
services:
  - {name: many, listen: %q, upstream: %q, mode: knock, knock: [udp], grant: {ttl: 1h, uses: 65536}}
  - {name: once, listen: %q, upstream: %q, mode: knock, knock: [udp]}
`, knockPort, alice, secret, knockgwService, s.upstream, onceService, s.upstream)).Start(t)
	s.haproxy = startHAProxy(t, l, s.upstream)
	return s
}

func upstreamOf(l *lab.Lab) netip.AddrPort { return netip.AddrPortFrom(l.Upstream.Addr4, servicePort) }

// contestants are all the ways.
func (s *site) contestants() []contestant {
	return []contestant{
		{ours, knockgwService, s.gateway.Process},
		{theirs, haproxyService, s.haproxy},
		{direct, s.upstream, nil},
	}
}

// open knocks from each of the sources for as many connections as a knock may
// open, and waits until it has.
func (s *site) open(t *testing.T, sources ...netip.Addr) {
	t.Helper()
	before := s.knocked()
	for _, from := range sources {
		v := lab.Peer{Host: s.Client, From: from, ID: alice, Secret: []byte(secret), KnockPort: knockPort}
		if err := v.Knock(t.Context(), knockgwService, nil); err != nil {
			t.Fatal(err)
		}
	}
	for began := time.Now(); s.knocked() < before+len(sources); time.Sleep(startPoll) {
		if time.Since(began) > startTime {
			t.Fatalf("of %d knocks %d were taken", len(sources), s.knocked()-before)
		}
	}
}

// knocked is how many knocks have been taken.
func (s *site) knocked() int {
	return int(s.gateway.Metrics()[`knockgw_knocks_total{method="udp",result="ok"}`])
}

// knock is how a generator knocks.
func knock() *load.Knock { return &load.Knock{ID: alice, Secret: []byte(secret), Port: knockPort} }

// startHAProxy starts HAProxy with nothing tuned and waits until it gets
// through to the upstream.
func startHAProxy(t *testing.T, l *lab.Lab, upstream netip.AddrPort) *lab.Process {
	t.Helper()
	path := filepath.Join(t.TempDir(), "haproxy.cfg")
	config := fmt.Sprintf(`defaults
  mode tcp
  timeout connect 5s
  timeout client 5m
  timeout server 5m
listen bench
  bind :%d
  server upstream %s
`, haproxyPort, upstream)
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p := l.Gateway.Start("haproxy", "-db", "-f", path)
	ctx, cancel := context.WithTimeout(t.Context(), startTime)
	defer cancel()
	for {
		conn, err := l.Client.Dial(ctx, "tcp", haproxyService.String())
		if err == nil {
			_ = conn.Close()
			time.Sleep(iperfCloseDelay)
			return p
		}
		select {
		case <-ctx.Done():
			t.Fatalf("HAProxy does not answer: %v", err)
		case <-time.After(startPoll):
		}
	}
}

// iperfCloseDelay is how long iperf3 takes to close an unused connection.
const iperfCloseDelay = 100 * time.Millisecond
