package admission

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/protocol"
)

// all are a valid knock by every method that is computed ahead, each of a
// client and service of its own.
func (v testPeer) all(c *protocol.Client, service string) [][]byte {
	return [][]byte{
		v.synKnock(c, service, 0), v.v2(c, service),
		v.synPart(c, service, 0, 0), v.synPart(c, service, 0, 1), v.synPart(c, service, 0, 2),
	}
}

// wantAll presents what all returned and expects three grants of it.
func (v testPeer) wantAll(packets [][]byte) {
	v.w.Helper()
	had := v.w.grantsOf(v.addr)
	for _, b := range packets {
		v.w.result(b)
	}
	v.wantGrants(had + 3)
}

func TestTableFindsKnocksAfterClockJump(t *testing.T) {
	w := newHarness(t, every())
	jump := []time.Duration{
		0, time.Second, testWindow, 7 * time.Minute, time.Hour, 127 * testWindow, 128 * testWindow, 129 * testWindow,
		255 * testWindow, 256 * testWindow, 257 * testWindow, 24 * time.Hour, 1000 * time.Hour,
	}
	for i, d := range jump {
		for _, d := range []time.Duration{d, -2 * d, d + time.Millisecond} {
			w.step(d)
			w.turn()
			w.pass(testTTL + testDeadline + time.Second)
			w.turn()
			w.sweep()
			v := w.at("192.0.2.1").spoofed(i)
			v.wantAll(v.all(alice, "ssh"))
			w.pass(testTTL + testDeadline + time.Second)
			w.sweep()
			v.wantGrants(0)
			w.pass(3 * testWindow)
			w.turn()
		}
	}
}

func TestTableIgnoresOldSlotAfterClockJump(t *testing.T) {
	// The table has eight bits of a slot's number, and is not rebuilt yet.
	for _, slots := range []time.Duration{2, 3, 127, 128, 129, 254, 255, 256, 257, 258, 512, 1 << 16} {
		for _, sign := range []time.Duration{1, -1} {
			w := newHarness(t, every())
			v := w.at("192.0.2.1")
			packets := v.all(alice, "db")
			w.step(sign * slots * testWindow)
			for i, b := range packets {
				if got := w.admit(b); got.Action != Drop {
					t.Errorf("%d slots later, packet %d: %v %v", sign*slots, i, got.Action, got.Reason)
				}
			}
			w.empty()
		}
	}
}

func TestTableHasNextSlots(t *testing.T) {
	w := newHarness(t, every())
	v := w.at("192.0.2.1")
	for range 5 {
		for _, kind := range []expectedKind{expectSYN, expectV2, expectPart} {
			w.until(kind, time.Millisecond)
			w.turn()
			w.pass(time.Millisecond) // the slot begins, the table is of the one before
			v.wantAll(v.all(alice, "ssh"))
			w.pass(testTTL + testDeadline + time.Second)
			w.sweep()
			w.pass(2 * testWindow)
			w.turn()
		}
	}
}

func TestTableIsBuiltWithoutLock(t *testing.T) {
	const clients = 500
	w := newHarness(t, every(legacy, having(manyClients(clients)...)))
	p := w.gate.policy.Load()
	perSlot := p.NumPrecomputed() / policy.SlotsKept
	if want := len(testServices) - 1; perSlot != want*clients*(1+3+3+1) { // all but the one without knocks
		t.Fatalf("%d HMACs a slot", perSlot)
	}
	ahead := func() int { return int(w.precomputed()) }
	for jump, want := range map[time.Duration]int{testWindow: perSlot, time.Hour: perSlot * policy.SlotsKept} {
		w.step(jump)
		// As long as the test holds the lock, the builder does not. So what it
		// computes meanwhile, which turns out to be all, it computes without.
		before, old := ahead(), w.gate.knocks.Table()
		w.gate.mu.Lock()
		var finished atomic.Bool
		var run sync.WaitGroup
		run.Go(func() {
			w.gate.rotateTable(w.builder)
			finished.Store(true)
		})
		for ahead() < before+want {
			runtime.Gosched()
		}
		if finished.Load() || w.gate.knocks.Table() != old {
			t.Error("the table was replaced without the lock")
		}
		w.gate.mu.Unlock()
		run.Wait()
		if got := ahead() - before; got != want || w.gate.knocks.Table() == old {
			t.Errorf("%d HMACs after %v, want %d", got, jump, want)
		}
	}
}

func TestTableRotationKeepsMemory(t *testing.T) {
	const clients = 1000
	w := newHarness(t, func(o *Options) {
		every(having(manyClients(clients)...), func(o *policy.Options) {
			o.Services = only(o.Services, "ssh4")
			o.Sequence.Slot = 10 * testWindow
		})(o)
	})
	p := w.gate.policy.Load()
	perSlot := clients * (1 + 3 + 1)
	size := w.gate.knocks.Table().Size()
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
		before := w.precomputed()
		w.gate.rotateTable(w.builder)
		if got := w.precomputed() - before; got != 2*clients && got != uint64(perSlot) {
			t.Fatalf("turn %d: %d HMACs", turn, got)
		}
		w.gate.sweep()
		if turn%100 != 50 {
			continue
		}
		used := 0
		for range w.gate.knocks.Table().Fields() {
			used++
		}
		if used != perSlot*policy.SlotsKept || w.gate.knocks.Table().Size() != size || 2*used > size {
			t.Fatalf("turn %d: %d of %d cells, want %d of %d", turn, used, w.gate.knocks.Table().Size(), perSlot*policy.SlotsKept, size)
		}
		// A client knocks by every method from time to time.
		v, c := w.at("192.0.2.1").spoofed(turn), p.Services()[0].Clients[turn%clients].Keys[0].Identity
		v.wantAll(v.all(c, "ssh"))
		w.pass(testTTL + testDeadline + time.Second)
		w.pass(testWindow - testTTL - testDeadline - time.Second)
		w.gate.rotateTable(w.builder)
		w.worker.Sweep()
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
	w.gate.rotateTable(w.builder)
	w.worker.Sweep()
	w.sweep()
	w.empty()
}

// only keeps the services of a name.
func only(all []policy.Service, name string) []policy.Service {
	return slices.DeleteFunc(all, func(s policy.Service) bool { return s.Name != name })
}

// manyClients are n clients with one key each.
func manyClients(n int) []*policy.Client {
	all := make([]*policy.Client, n)
	for i := range all {
		all[i] = policy.NewClient(testClient(fmt.Sprintf("client-%05d", i)))
	}
	return all
}
