package admission

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// usage returns the usage of one of the gate's limits.
func (h *harness) usage(of string) Usage {
	h.Helper()
	for _, b := range h.gate.Usage() {
		if b.Resource == of {
			return b
		}
	}
	h.Fatalf("there is no bound of %s", of)
	return Usage{}
}

// A handshake that completes beyond the limit is reset by its caller, and is not
// counted until then.
func TestUsageStaysWithinSourceLimit(t *testing.T) {
	forEachFamily(func(addr string) {
		const limit = 2
		h := newHarness(t, allMethods(), func(o *Options) { o.Limits.FlowsPerSource = limit })
		peer := h.peer(addr)
		for port := range uint16(limit + 2) { // before any of them is counted
			h.want(peer.syn(port+1, "web"), ReasonOpen)
		}
		for port := range uint16(limit) {
			peer.mustHandshake(port+1, "web")
		}

		for port := uint16(limit + 1); port <= limit+2; port++ {
			peer.completeHandshake(port, "web")
			if err := h.gate.HandshakeDone(peer.tuple(port, "web")); !errors.Is(err, ErrLimitExceeded) {
				t.Errorf("port %d: %v", port, err)
			}
			if u := h.usage("flows_per_source"); u.Used != limit {
				t.Errorf("%d flows of %d", u.Used, u.Limit)
			}
			h.check()
			h.gate.Remove(peer.tuple(port, "web"))
			h.check()
		}
	})
}

func TestUsageResourcesAreUnique(t *testing.T) {
	h := newHarness(t, allMethods())
	seen := make(map[string]bool)
	for _, b := range h.gate.Usage() {
		if seen[b.Resource] || b.Used != 0 && b.Resource != "expected_knocks" || b.Limit <= 0 {
			t.Errorf("%+v (%v)", b, seen[b.Resource])
		}
		seen[b.Resource] = true
	}
}

func TestUsageReportsPeaks(t *testing.T) {
	forEachFamily(func(addr string) {
		h := newHarness(t, allMethods(), withBans)
		peer := h.peer(addr)
		const flows = 3
		for n := range uint16(flows) {
			h.want(peer.syn(n+1, "web"), ReasonOpen)
		}
		h.want(h.peer("192.0.2.77").syn(1, "vpn"), ReasonOpen)
		peer.mustHandshake(1, "web")
		h.gate.Failed(peer.tuple(1, "web"))
		for of, want := range map[string]int{
			"flow_table_entries": flows + 1, "half_open_flows": flows, "failing_sources": 1, "grants": 0, "knock_queue_length": 0,
		} {
			if b := h.usage(of); b.Used != want {
				t.Errorf("%+v, want %d", b, want)
			}
		}
	})
}

func TestBanIsReportedOnce(t *testing.T) {
	forEachFamily(func(addr string) {
		var told []BanEvent
		h := newHarness(t, allMethods(), withBans, func(o *Options) { o.Banned = func(e BanEvent) { told = append(told, e) } })
		peer := h.peer(addr)
		const failures = 9 // three times as many as a ban takes: some handshakes were under way when it began
		for n := range uint16(failures) {
			h.want(peer.syn(n+1, "web"), ReasonOpen)
			peer.mustHandshake(n+1, "web")
		}
		for n := range uint16(failures) {
			h.gate.Failed(peer.tuple(n+1, "web"))
		}
		if len(told) != 1 {
			t.Fatalf("%+v", told)
		}
		e := told[0]
		if e.From != peer.addr || !e.Source.Contains(peer.addr) || e.Source.Bits() != map[bool]int{true: 32, false: 64}[peer.addr.Is4()] ||
			e.Failures != 3 || e.For != 10*time.Minute || e.Service != fmt.Sprintf("web%d", map[bool]int{true: 4, false: 6}[peer.addr.Is4()]) {
			t.Errorf("%+v", e)
		}
		if n := h.gate.Unban(e.Source); n != 1 {
			t.Errorf("%d were pardoned", n)
		}
		for n := range uint16(3) {
			h.gate.Failed(peer.tuple(n+1, "web"))
		}
		if len(told) != 2 {
			t.Errorf("after a pardon: %+v", told)
		}
	})
}
