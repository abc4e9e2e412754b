//go:build !race

// There is one goroutine in this test, and millions of HMACs, which the race
// detector makes twenty times as slow: it is run without (make test).

package admission

import (
	"runtime"
	"testing"
	"time"
)

func TestADayOfSlotsLeavesMemoryAsItWas(t *testing.T) {
	const clients = 1000
	w := newWorld(t, func(o *Options) {
		every(having(manyClients(clients)...), func(o *PolicyOptions) { o.Services = only(o.Services, "ssh4") })(o)
	})
	p := w.gate.policy.Load()
	perSlot := clients * (1 + 3 + 1)
	size := len(w.gate.expected.cells)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	day := int(24 * time.Hour / testWindow)
	var early uint64
	for turn := range day {
		w.pass(testWindow)
		before := w.gate.stats.ahead.Load()
		w.gate.turnSlots(&w.turner)
		if got := w.gate.stats.ahead.Load() - before; got != uint64(perSlot) {
			t.Fatalf("turn %d: %d HMACs, want %d", turn, got, perSlot)
		}
		w.gate.sweep()
		if turn%100 != 50 {
			continue
		}
		used := 0
		for i := range w.gate.expected.cells {
			if w.gate.expected.cells[i].what != 0 {
				used++
			}
		}
		if used != perSlot*slotsKept || len(w.gate.expected.cells) != size || 2*used > size {
			t.Fatalf("turn %d: %d of %d cells, want %d of %d", turn, used, len(w.gate.expected.cells), perSlot*slotsKept, size)
		}
		// Somebody knocks by every method now and then.
		v, c := w.at("192.0.2.1").spoofed(turn), p.services[0].Clients[turn%clients].Keys[0].Identity
		v.wantAll(v.all(c, "ssh"))
		w.pass(testTTL + testDeadline + time.Second)
		w.pass(testWindow - testTTL - testDeadline - time.Second)
		w.gate.turnSlots(&w.turner)
		w.worker.sweep()
		w.sweep()
		w.events = w.events[:0]
		now := heap()
		if early == 0 {
			early = now
		}
		if now > early+1<<20 {
			t.Errorf("turn %d: %d KiB on the heap, %d early on", turn, now>>10, early>>10)
		}
	}
	w.pass(time.Hour)
	w.gate.turnSlots(&w.turner)
	w.worker.sweep()
	w.sweep()
	w.empty()
}
