package admission

import (
	"fmt"
	"testing"
	"time"
)

// bound returns one of the gate's bounds.
func (w *harness) bound(of string) Usage {
	w.Helper()
	for _, b := range w.gate.Usage() {
		if b.Resource == of {
			return b
		}
	}
	w.Fatalf("there is no bound of %s", of)
	return Usage{}
}

func TestUsageResourcesAreUnique(t *testing.T) {
	w := newHarness(t, every())
	seen := make(map[string]bool)
	for _, b := range w.gate.Usage() {
		if seen[b.Resource] || b.Used != 0 && b.Resource != "expected_knocks" || b.Limit <= 0 {
			t.Errorf("%+v (%v)", b, seen[b.Resource])
		}
		seen[b.Resource] = true
	}
}

func TestUsageReportsPeaks(t *testing.T) {
	everywhere(func(addr string) {
		w := newHarness(t, every(), banning)
		v := w.at(addr)
		const flows = 3
		for n := range uint16(flows) {
			w.want(v.syn(n+1, "web"), ReasonOpen)
		}
		w.want(w.at("192.0.2.77").syn(1, "vpn"), ReasonOpen)
		v.handshakes(1, "web")
		w.gate.Failed(v.tuple(1, "web"))
		for of, want := range map[string]int{
			"flow_table_entries": flows + 1, "half_open_flows": flows, "failing_sources": 1, "grants": 0, "knock_queue_length": 0,
		} {
			if b := w.bound(of); b.Used != want {
				t.Errorf("%+v, want %d", b, want)
			}
		}
	})
}

func TestBanIsReportedOnce(t *testing.T) {
	everywhere(func(addr string) {
		var told []BanEvent
		w := newHarness(t, every(), banning, func(o *Options) { o.Banned = func(e BanEvent) { told = append(told, e) } })
		v := w.at(addr)
		const failures = 9 // three times as many as a ban takes: some handshakes were under way when it began
		for n := range uint16(failures) {
			w.want(v.syn(n+1, "web"), ReasonOpen)
			v.handshakes(n+1, "web")
		}
		for n := range uint16(failures) {
			w.gate.Failed(v.tuple(n+1, "web"))
		}
		if len(told) != 1 {
			t.Fatalf("%+v", told)
		}
		e := told[0]
		if e.From != v.addr || !e.Source.Contains(v.addr) || e.Source.Bits() != map[bool]int{true: 32, false: 64}[v.addr.Is4()] ||
			e.Failures != 3 || e.For != 10*time.Minute || e.Service != fmt.Sprintf("web%d", map[bool]int{true: 4, false: 6}[v.addr.Is4()]) {
			t.Errorf("%+v", e)
		}
		if n := w.gate.Unban(e.Source); n != 1 {
			t.Errorf("%d were pardoned", n)
		}
		for n := range uint16(3) {
			w.gate.Failed(v.tuple(n+1, "web"))
		}
		if len(told) != 2 {
			t.Errorf("after a pardon: %+v", told)
		}
	})
}
