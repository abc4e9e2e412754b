//go:build linux

package netns_test

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/control"
	"github.com/knockgw/knockgw/test/netns/lab"
)

// An attacker's scan is seen four times over: by the metrics, by the trace, by
// the gateway's capture, which tshark reads, and by explain, of what tcpdump
// saw where the attacker is. All four must tell the same.

// A decision is a packet of the scan's and what became of it, as text.
type decision string

func judgedAs(source, target, verdict, reason string) decision {
	return decision(fmt.Sprintf("%s > %s: %s: %s", source, target, verdict, reason))
}

// tally counts the same.
func tally(all []decision) map[decision]int {
	n := make(map[decision]int)
	for _, j := range all {
		n[j]++
	}
	return n
}

// refusedPackets is how many packets the metrics say were refused, by the
// process or in the kernel.
func refusedPackets(g *lab.Gateway) (n float64) {
	for sample, value := range g.Metrics() {
		if strings.HasPrefix(sample, `knockgw_packets_total{`) && strings.Contains(sample, `verdict="drop"`) ||
			strings.HasPrefix(sample, "knockgw_filter_dropped_packets_total{") {
			n += value
		}
	}
	return n
}

// scan asks for what nmap asks for, and must learn nothing.
func (d *soak) scan(t *testing.T) {
	t.Helper()
	for _, flag := range []string{"-sS", "-sA", "-sU"} {
		scan{flags: []string{flag}}.assertBlind(t, d.Attacker, d.office.listen.Addr())
	}
}

func (d *soak) checkTrace(t *testing.T) {
	before := refusedPackets(d.gateway)
	tap := d.Attacker.Capture(lab.Link)
	d.scan(t)
	sent := lab.Sent(tap.Stop(), d.Attacker.Addr4, lab.Protected4)
	// More may be refused at the same time: Carol's kernel continues with her
	// connection.
	if n := int(refusedPackets(d.gateway) - before); sent == 0 || n < sent {
		t.Errorf("the metrics have %d refused packets of a scan of %d", n, sent)
	}
	m := d.gateway.Metrics()
	if m["process_open_fds"] == 0 || m["process_resident_memory_bytes"] == 0 {
		t.Error("the gateway, which has given up its privileges, does not know what it takes itself")
	}
	if m["knockgw_filter_attached"] == 1 {
		if _, ok := m[`knockgw_filter_dropped_packets_total{reason="no-service"}`]; !ok {
			t.Error("knockgw_filter_dropped_packets_total is not among the metrics")
		}
	}

	dir, from := t.TempDir(), d.Attacker.Addr4.String()
	pcapng, pcap := filepath.Join(dir, "gateway.pcapng"), filepath.Join(dir, "attacker.pcap")
	trace := d.start(t, "trace", "--from", from, "-o", "json")
	capture := d.start(t, "capture", "-o", pcapng, "--filter", "host "+from)
	tcpdump := d.Attacker.Start("tcpdump", "-n", "-U", "-Z", "root", "-i", lab.Link, "-w", pcap, "src", "host", from, "and", "dst", "net", lab.Protected4.String())
	for p, words := range map[*lab.Process]string{capture: "capturing", tcpdump: "listening on"} {
		if err := p.WaitLog(withTimeout(t, answerTime), func(log string) bool { return strings.Contains(log, words) }); err != nil {
			t.Fatal(err)
		}
	}
	for range 200 { // the trace says nothing until there is something
		if d.gateway.Metrics()["knockgw_trace_sessions"] == 2 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	d.scan(t)
	time.Sleep(time.Second) // the last packets are on their way to all three
	for _, p := range []*lab.Process{trace, capture, tcpdump} {
		p.Signal(syscall.SIGINT)
		if code, err := p.Wait(withTimeout(t, answerTime)); err != nil || code != 0 {
			t.Fatalf("a watcher ended with %d, %v\n%s", code, err, p.Log())
		}
	}

	seen := traced(t, trace.Log())
	if len(seen) < sent/2 {
		t.Errorf("the trace has %d packets of a scan of about %d", len(seen), sent)
	}
	assertSame(t, "tshark", seen, d.readByTshark(t, pcapng))
	assertSame(t, "explain", seen, d.explained(t, pcap))
	assertSame(t, "explain, of the gateway's capture", seen, d.explained(t, pcapng))
}

// start starts a command that runs until it is interrupted.
func (d *soak) start(t *testing.T, command string, args ...string) *lab.Process {
	t.Helper()
	return d.Gateway.Start(program.get(t).Path, append([]string{command, "--config", d.site.Config}, args...)...)
}

// traced reads `knockgw trace -o json`.
func traced(t *testing.T, log string) (all []decision) {
	t.Helper()
	events, err := jsonLines[control.TraceEvent](strings.NewReader(log))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Dropped > 0 {
			t.Errorf("the trace left out %d events", e.Dropped)
		}
		if e.Step == control.StepPacket {
			all = append(all, judgedAs(e.Source, e.Target, e.Verdict, e.Reason))
		}
	}
	return all
}

// readByTshark has the gateway's capture read by Wireshark's program.
func (d *soak) readByTshark(t *testing.T, file string) (all []decision) {
	t.Helper()
	out := d.Gateway.MustRun("tshark", "-r", file, "-T", "fields", "-E", "separator=|", "-e", "ip.src", "-e", "tcp.srcport", "-e", "udp.srcport",
		"-e", "ip.dst", "-e", "tcp.dstport", "-e", "udp.dstport", "-e", "frame.comment")
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSpace(line), "|")
		if len(f) != 7 {
			continue // tshark's own warning about its account
		}
		verdict, reason, _ := strings.Cut(f[6], ": ")
		all = append(all, judgedAs(f[0]+":"+f[1]+f[2], f[3]+":"+f[4]+f[5], verdict, reason))
	}
	return all
}

// explained runs explain on a capture.
func (d *soak) explained(t *testing.T, file string) (all []decision) {
	t.Helper()
	type packet struct{ Source, Destination, Verdict, Reason string }
	out := d.Gateway.MustRun(program.get(t).Path, "explain", "--config", d.site.Config, "-o", "json", file)
	packets, err := jsonLines[packet](strings.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packets {
		all = append(all, judgedAs(p.Source, p.Destination, p.Verdict, p.Reason))
	}
	return all
}

// assertSame fails the test where two have seen different things.
func assertSame(t *testing.T, who string, want, got []decision) {
	t.Helper()
	a, b := tally(want), tally(got)
	if maps.Equal(a, b) {
		return
	}
	const shown = 10
	t.Errorf("%s has %d packets, the trace %d", who, len(got), len(want))
	for i, j := range slices.Sorted(maps.Keys(a)) {
		if i < shown && a[j] != b[j] {
			t.Errorf("the trace %d times, %s %d times: %s", a[j], who, b[j], j)
		}
	}
	for i, j := range slices.Sorted(maps.Keys(b)) {
		if i < shown && a[j] == 0 {
			t.Errorf("%s alone: %s", who, j)
		}
	}
}
