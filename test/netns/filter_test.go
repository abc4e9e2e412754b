//go:build linux

package netns_test

import (
	"context"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/knockgw/knockgw/internal/testtool"
	"github.com/knockgw/knockgw/protocol"
	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	floodTime = 2 * time.Second
	// floodRate is in packets a second, no more than the tap on the attacker's
	// link keeps up with.
	floodRate = 20_000
	// floodCPU is what a flood that the kernel refuses may take of one
	// processor, in the process. (What it takes is less than one part in a
	// hundred, mostly for the test's own connections.)
	floodCPU = 0.1

	attached = "knockgw_filter_attached"
)

// filters sets tun.filter.
func filters(t *testing.T, site *lab.Site, value string) {
	t.Helper()
	text, err := os.ReadFile(site.Config)
	if err != nil {
		t.Fatal(err)
	}
	site.Write(t, strings.Replace(string(text), "\ntun:\n", "\ntun:\n  filter: "+value+"\n", 1))
}

// refused are the packets refused for a reason, in the process and in the
// kernel.
func refused(g *lab.Gateway, reason string) (process, kernel float64) {
	m := g.Metrics()
	return m[`knockgw_packets_total{reason="`+reason+`",verdict="drop"}`], m[`knockgw_filter_dropped_packets_total{reason="`+reason+`"}`]
}

// everyMethod is a hidden service that takes every kind of knock, and one that
// takes one and is at another address.
func everyMethod(upstream string) []endpoint {
	return []endpoint{
		{name: "every", mode: "knock-auth", listen: netip.MustParseAddrPort("10.77.0.1:22"), upstream: upstream, methods: []string{
			protocol.MethodUDP, protocol.MethodTCPSYN, protocol.MethodTCPSYNSeq, protocol.MethodUDPv2}},
		{name: "udp", mode: "knock", listen: netip.MustParseAddrPort("10.77.0.2:22"), upstream: upstream},
	}
}

// A flood that matches no client costs the process nothing, gets no answer, and
// excludes no client.
func TestFilterDropsFloods(t *testing.T) {
	testtool.RequireLong(t, "measures the processor time of floods")
	t.Parallel()
	l := lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	all := everyMethod(s.Addr)
	site := l.NewSite(t, program.get(t), configuration(all...))
	filters(t, site, "require")
	gateway := site.Start(t)
	if gateway.Metrics()[attached] != 1 {
		t.Fatalf("%s is not 1", attached)
	}
	attacker := []netip.Addr{l.Attacker.Addr4}
	for _, c := range []struct {
		name, reason string
		junk         lab.Junk
	}{
		{"SYNs", "no-grant", lab.Junk{Form: lab.JunkSYN, To: all[0].listen}},
		{"SYNs to any port", "no-service", lab.Junk{Form: lab.JunkSYN, To: netip.AddrPortFrom(all[0].listen.Addr(), 0)}},
		{"segments", "no-flow", lab.Junk{Form: lab.JunkACK, To: all[0].listen}},
		{"datagrams", "no-service", lab.Junk{Form: lab.JunkDatagram, To: netip.MustParseAddrPort("10.77.0.1:53")}},
		{"datagrams to the knock port", "not-a-knock", lab.Junk{Form: lab.JunkDatagram, To: netip.AddrPortFrom(all[0].listen.Addr(), knockPort)}},
		{"datagrams of the size of udp-v2", "not-a-knock", lab.Junk{Form: lab.JunkV2, To: netip.AddrPortFrom(all[0].listen.Addr(), knockPort)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.junk.Sources = attacker
			tap := l.Attacker.Capture(lab.Link)
			inProcess, inKernel := refused(gateway, c.reason)
			spent, began := gateway.CPU(), time.Now()
			ctx, stop := context.WithTimeout(t.Context(), floodTime)
			defer stop()
			sent := 0
			var flooding sync.WaitGroup
			flooding.Go(func() {
				var err error
				if sent, err = l.Attacker.Flood(ctx, c.junk, floodRate); err != nil {
					t.Error(err)
				}
			})
			for ctx.Err() == nil {
				for _, d := range all {
					if err := d.visit(t.Context(), alice(l.Client), s.Greeting); err != nil {
						t.Error(err)
					}
				}
				time.Sleep(floodTime / 8)
			}
			flooding.Wait()
			took := time.Since(began)
			cpu := float64(gateway.CPU()-spent) / float64(took)
			process, kernel := refused(gateway, c.reason)
			t.Logf("%d packets, %.1f %% of a processor in the process", sent, 100*cpu)
			if sent == 0 {
				t.Fatal("nothing was sent")
			}
			if n := kernel - inKernel; n < 0.9*float64(sent) {
				t.Errorf("of %d packets the kernel refused %.0f", sent, n)
			}
			if process != inProcess {
				t.Errorf("the process refused %.0f", process-inProcess)
			}
			if cpu > floodCPU {
				t.Errorf("it took %.1f %% of a processor", 100*cpu)
			}
			l.Attacker.Silent(tap.Stop())
		})
	}
}

// Without the filter the same packets are refused, for the same reasons.
func TestGatewayDropsFloodsWithoutFilter(t *testing.T) {
	testtool.RequireLong(t, "floods for 2 s a kind")
	t.Parallel()
	l := lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	all := everyMethod(s.Addr)
	site := l.NewSite(t, program.get(t), configuration(all...))
	packets := map[string][][]byte{}
	src := netip.AddrPortFrom(l.Attacker.Addr4, 4000)
	syn, ack := layers.TCP{SYN: true, Window: 1024}, layers.TCP{ACK: true, Window: 1024}
	none := netip.AddrPortFrom(all[0].listen.Addr(), 23)
	packets["no-grant"] = [][]byte{tcpSegment(t, src, all[0].listen, syn, nil), tcpSegment(t, src, all[1].listen, syn, nil)}
	packets["no-flow"] = [][]byte{tcpSegment(t, src, all[0].listen, ack, nil), tcpSegment(t, src, all[0].listen, ack, []byte("data"))}
	packets["no-service"] = [][]byte{tcpSegment(t, src, none, syn, nil), tcpSegment(t, src, none, ack, nil)}
	packets["malformed-protocol"] = [][]byte{rawIP(t, src.Addr(), none.Addr(), layers.IPProtocol(253), []byte("odd"))}
	for _, c := range []struct {
		filter string
		on     float64
	}{{"off", 0}, {"require", 1}, {"auto", 1}} {
		filters(t, site, c.filter)
		gateway := site.Start(t)
		if got := gateway.Metrics()[attached]; got != c.on {
			t.Fatalf("filter: %s, and %s is %v", c.filter, attached, got)
		}
		for reason, ps := range packets {
			for _, p := range ps {
				inject(t, l.Attacker, all[0].listen.Addr(), p)
			}
			var process, kernel float64
			for range 50 { // the process reads in its own time
				if process, kernel = refused(gateway, reason); process+kernel >= float64(len(ps)) {
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
			want := float64(len(ps))
			if process != want*(1-c.on) || kernel != want*c.on {
				t.Errorf("filter: %s, %s: the process refused %v and the kernel %v of %v", c.filter, reason, process, kernel, want)
			}
		}
		for _, d := range all {
			if err := d.visit(t.Context(), alice(l.Client), s.Greeting); err != nil {
				t.Error(err)
			}
		}
		gateway.Stop()
		text, err := os.ReadFile(site.Config)
		if err != nil {
			t.Fatal(err)
		}
		site.Write(t, strings.Replace(string(text), "  filter: "+c.filter+"\n", "", 1))
	}
}

// A filter that may not be: the gateway says so and works without, or does not
// start, as it is told.
func TestGatewayRunsWithoutFilterPermission(t *testing.T) {
	t.Parallel()
	lab.RequireTools(t, "setpriv")
	l := lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	all := everyMethod(s.Addr)
	site := l.NewSite(t, program.get(t), configuration(all...))
	run := append([]string{"--bounding-set=-bpf,-sys_admin"}, site.Run()...)

	gateway := l.Gateway.StartCommand(t, l.Gateway.Command(context.Background(), "setpriv", run...))
	if err := gateway.WaitLog(withTimeout(t, admitTime), func(log string) bool { return strings.Contains(log, "msg=ready") }); err != nil {
		t.Fatalf("%v\n%s", err, gateway.Log())
	}
	if n := strings.Count(gateway.Log(), "packets are dropped in user space"); n != 1 {
		t.Errorf("it says %d times that there is no filter:\n%s", n, gateway.Log())
	}
	for _, d := range all {
		if err := d.visit(t.Context(), alice(l.Client), s.Greeting); err != nil {
			t.Error(err)
		}
	}
	gateway.Kill()
	<-gateway.Ended()

	filters(t, site, "require")
	out, err := l.Gateway.Run(withTimeout(t, admitTime), "setpriv", run...)
	if code := lab.ExitCode(err); code != exitNotPermitted || !strings.Contains(out, "CAP_BPF") {
		t.Errorf("it ended with %d, want %d and what is missing:\n%s", code, exitNotPermitted, out)
	}
}
