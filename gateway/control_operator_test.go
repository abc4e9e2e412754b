package gateway_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/knockgw/knockgw/capture"
	"github.com/knockgw/knockgw/internal/control"
	"github.com/knockgw/knockgw/packet"
)

// withControl returns a harness with a control socket, and a client of it.
func withControl(t *testing.T) (*harness, *control.Client) {
	t.Helper()
	dir, err := os.MkdirTemp("", "knockgw-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "control.sock")
	h := newHarness(t, true, services(echoUpstream(t))+"control: {socket: "+socket+"}\n")
	return h, &control.Client{Socket: socket}
}

// eventually waits until f returns true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(timeout); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func TestOperatorListsAndRevokesFlows(t *testing.T) {
	h, c := withControl(t)
	for _, home := range clientAddrs {
		conn, err := h.connectAs(alice, home, modeKnockAuth)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		var f control.Flow
		eventually(t, "the flow is listed", func() bool {
			list, err := c.Flows(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			if len(list.Flows) != 1 {
				return false
			}
			f = list.Flows[0]
			return f.Received == 5
		})
		if f.Client != "alice" || f.Source.Addr() != home || f.Target != target(home, modeKnockAuth) || f.Upstream == "" {
			t.Errorf("%+v", f)
		}
		time.Sleep(quietPeriod) // until what it wrote is acknowledged
		heard := h.received(home)
		r, err := c.Revoke(t.Context(), control.Revocation{Client: "alice"})
		if err != nil || r.Flows != 1 {
			t.Errorf("%+v, %v", r, err)
		}
		eventually(t, "the flow has ended", func() bool {
			list, err := c.Flows(t.Context(), 0)
			return err == nil && len(list.Flows) == 0
		})
		_ = conn.SetReadDeadline(time.Now().Add(timeout))
		if _, err := conn.Read(make([]byte, 1)); err == nil || isTimeout(err) {
			t.Errorf("from %v: the client was not told: %v", home, err)
		}
		time.Sleep(quietPeriod)
		if n := h.received(home) - heard; n != 1 {
			t.Errorf("from %v: revoking was heard in %d packets, not in a reset", home, n)
		}
		_ = conn.Close()
	}
}

func TestOperatorListsAndRevokesGrants(t *testing.T) {
	h, c := withControl(t)
	home := clientAddrs[0]
	to := target(home, modeKnock)
	h.datagram(home, to, knockFor(bob, to, newSession(), time.Now()))
	eventually(t, "there is a grant", func() bool {
		list, err := c.Grants(t.Context())
		return err == nil && len(list.Grants) == 1 && list.Grants[0].Client == "bob" && list.Grants[0].Source == home && list.Grants[0].Left > 0
	})
	if r, err := c.Revoke(t.Context(), control.Revocation{Grants: true, Source: netip.PrefixFrom(home, 32)}); err != nil || r.Grants != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if conn, err := h.dial(home, to, quietPeriod); err == nil {
		t.Error("the grant still lets in")
		_ = conn.Close()
	}
	for _, r := range []control.Revocation{{Client: "carol"}, {Service: "nothing"}} {
		if _, err := c.Revoke(t.Context(), r); err == nil || !strings.Contains(err.Error(), "there is no") {
			t.Errorf("%+v: %v", r, err)
		}
	}
	if _, err := c.Revoke(t.Context(), control.Revocation{}); err == nil || !strings.Contains(err.Error(), "select what to revoke") {
		t.Errorf("%v", err)
	}
}

func TestClientsReportLastDenial(t *testing.T) {
	h, c := withControl(t)
	home := clientAddrs[2]
	to := target(home, modeKnockAuth)
	for range 2 {
		h.datagram(home, to, knockFor(alice, to, newSession(), time.Now().Add(-41*time.Second)))
	}
	var a *control.Attempt
	eventually(t, "the refusals are known", func() bool {
		list, err := c.Clients(t.Context())
		if err != nil || len(list.Clients) != 2 || list.Clients[0].ID != "alice" {
			t.Fatalf("%+v, %v", list, err)
		}
		a = list.Clients[0].LastDenied
		return a != nil && a.Repeats == 1
	})
	if a.Result != "stale" || a.ClockDifference == nil || *a.ClockDifference > -40 || *a.ClockDifference < -43 || a.Source != home || !strings.Contains(a.Message, "clock") {
		t.Errorf("%+v", a)
	}
	conn, err := h.connectAs(alice, home, modeKnockAuth)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	eventually(t, "alice is seen", func() bool {
		list, err := c.Clients(t.Context())
		return err == nil && list.Clients[0].LastSeen != nil && list.Clients[1].LastSeen == nil
	})
}

// traced collects the events of a trace until found accepts one.
func traced(t *testing.T, c *control.Client, o control.TraceOptions, provoke func(), found func(*control.TraceEvent) bool) []control.TraceEvent {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	var (
		all  []control.TraceEvent
		wg   sync.WaitGroup
		once sync.Once
	)
	stop := make(chan struct{})
	wg.Go(func() { // there is no word of when a trace has begun: try until it shows
		for {
			once.Do(func() { time.Sleep(10 * time.Millisecond) })
			provoke()
			select {
			case <-time.After(quietPeriod):
			case <-stop:
				return
			}
		}
	})
	err := c.Trace(ctx, o, func(e *control.TraceEvent) error {
		all = append(all, *e)
		if found(e) {
			return io.EOF
		}
		return nil
	})
	close(stop)
	wg.Wait()
	if err != io.EOF {
		t.Fatalf("%v after %+v", err, all)
	}
	return all
}

func TestTraceReportsEachStep(t *testing.T) {
	h, c := withControl(t)
	wanted := []string{
		"packet hold knock out=false", "knock ok  out=false", "packet pass grant out=false", "packet pass flow out=true",
		"packet pass flow out=false", "authentication ok  out=false", "flow ended done out=false",
	}
	for _, home := range clientAddrs[1:] {
		single := netip.PrefixFrom(home, home.BitLen())
		steps := map[string]bool{}
		traced(t, c, control.TraceOptions{From: single, Service: serviceName(home, modeKnockAuth)}, func() {
			conn, err := h.connectAs(alice, home, modeKnockAuth)
			if err != nil {
				t.Error(err)
				return
			}
			h.exchange(conn, 16)
		}, func(e *control.TraceEvent) bool {
			steps[fmt.Sprintf("%s %s %s out=%v", e.Step, e.Verdict, e.Reason, e.Out)] = true
			if e.Step == control.StepPacket && e.Message == "" {
				t.Errorf("no words: %+v", e)
			}
			if !strings.Contains(e.Source, home.String()) && !strings.Contains(e.Target, home.String()) {
				t.Errorf("event of another source: %+v", e)
			}
			// A trace may start during a connection, and report its end first.
			return !slices.ContainsFunc(wanted, func(step string) bool { return !steps[step] })
		})
	}
}

// serviceName returns the name of the harness's service at a port.
func serviceName(home netip.Addr, port uint16) string {
	if home.Is4() {
		return fmt.Sprintf("ipv4-%d", port)
	}
	return fmt.Sprintf("ipv6-%d", port)
}

func TestTraceReportsWhyAttackerIsDropped(t *testing.T) {
	h, c := withControl(t)
	home := clientAddrs[0]
	unknown, waited := false, false // the knock, and the SYN that was deferred for it
	traced(t, c, control.TraceOptions{From: netip.PrefixFrom(home, 32)}, func() {
		to := target(home, modeKnock)
		h.datagram(home, to, knockFor(mallory, to, newSession(), time.Now()))
		if conn, err := h.dial(home, to, 50*time.Millisecond); err == nil {
			t.Error("let in")
			_ = conn.Close()
		}
	}, func(e *control.TraceEvent) bool {
		unknown = unknown || e.Step == control.StepKnock && e.Verdict == "unknown"
		waited = waited || e.Step == control.StepPacket && e.Verdict == "drop" && e.Reason == "defer-timeout"
		return unknown && waited
	})
}

func TestTraceRejectsUnknownService(t *testing.T) {
	_, c := withControl(t)
	err := c.Trace(t.Context(), control.TraceOptions{From: netip.MustParsePrefix("10.0.0.0/8"), Service: "nothing"},
		func(*control.TraceEvent) error { return nil })
	if err == nil || !strings.Contains(err.Error(), `no service "nothing"`) {
		t.Errorf("%v", err)
	}
}

func TestCaptureRecordsVerdicts(t *testing.T) {
	h, c := withControl(t)
	filter := fmt.Sprintf("proto tcp and port %d", modeKnockAuth)
	var file bytes.Buffer
	ctx, stop := context.WithCancel(t.Context())
	begun, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- c.Capture(ctx, control.CaptureOptions{Filter: filter, Snaplen: 60}, &file, func() { close(begun) })
	}()
	<-begun
	conn, err := h.connectAs(alice, clientAddrs[0], modeKnockAuth)
	if err != nil {
		t.Fatal(err)
	}
	h.exchange(conn, 1<<12)
	time.Sleep(2 * quietPeriod)
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	const statistics = 5 // the type of the block that ends a capture in order
	if b := file.Bytes(); binary.LittleEndian.Uint32(b[len(b)-int(binary.LittleEndian.Uint32(b[len(b)-4:])):]) != statistics {
		t.Error("it ends without its statistics")
	}
	if err := c.Capture(t.Context(), control.CaptureOptions{Filter: "port 3 or port 9"}, io.Discard, func() {}); err == nil ||
		!strings.Contains(err.Error(), "or is not supported") {
		t.Errorf("a bad filter: %v", err)
	}
	r, err := capture.NewReader(bytes.NewReader(file.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	in, out := 0, 0
	for {
		record, err := r.Next()
		if err != nil {
			break
		}
		if len(record.Data) > 60 {
			t.Errorf("%d bytes of a packet", len(record.Data))
		}
		p := packet.Packet{Data: record.Data, Offload: packet.Offload{ChecksumValid: true}}
		p.DecodeTCP(record.Data)
		switch uint16(modeKnockAuth) {
		case p.Tuple.DstPort:
			in++
		case p.Tuple.SrcPort:
			out++
		default:
			t.Errorf("port %d and %d", p.Tuple.SrcPort, p.Tuple.DstPort)
		}
	}
	if in < 4 || out < 3 || !strings.Contains(file.String(), "pass: grant") || !strings.Contains(file.String(), "pass: flow") {
		t.Errorf("%d packets in, %d out", in, out)
	}
}

func TestTraceSessionsAreLimited(t *testing.T) {
	_, c := withControl(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	refused := make(chan error, 16)
	for range 9 {
		wg.Go(func() {
			err := c.Capture(ctx, control.CaptureOptions{}, io.Discard, func() {})
			if err != nil && ctx.Err() == nil {
				refused <- err
			}
		})
	}
	select {
	case err := <-refused:
		if !strings.Contains(err.Error(), "8 traces and captures") {
			t.Error(err)
		}
	case <-time.After(timeout):
		t.Error("nine watch at once")
	}
	stop()
	wg.Wait()
}

func TestClientsLastSeenFollowsTraffic(t *testing.T) {
	h, c := withControl(t)
	conn, err := h.connectAs(alice, clientAddrs[2], modeKnockAuth)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	seen := func() time.Time {
		list, err := c.Clients(t.Context())
		if err != nil || len(list.Clients) == 0 || list.Clients[0].LastSeen == nil {
			return time.Time{}
		}
		return list.Clients[0].LastSeen.Time
	}
	eventually(t, "alice is seen", func() bool { return !seen().IsZero() })
	moved := time.Now()
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "alice is seen later", func() bool { return seen().After(moved) })
}
