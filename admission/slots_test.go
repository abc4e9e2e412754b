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

// precomputedKnocks returns a valid knock by every method that is computed
// ahead.
func (peer testPeer) precomputedKnocks(c *protocol.Client, service string) [][]byte {
	return [][]byte{
		peer.synKnock(c, service, 0), peer.v2(c, service),
		peer.synPart(c, service, 0, 0), peer.synPart(c, service, 0, 1), peer.synPart(c, service, 0, 2),
	}
}

// wantKnocks sends these packets and expects three grants.
func (peer testPeer) wantKnocks(packets [][]byte) {
	peer.h.Helper()
	had := peer.h.grantsOf(peer.addr)
	for _, b := range packets {
		peer.h.knockResult(b)
	}
	peer.wantGrants(had + 3)
}

func TestTableFindsKnocksAfterClockJump(t *testing.T) {
	h := newHarness(t, allMethods())
	jump := []time.Duration{
		0, time.Second, testWindow, 7 * time.Minute, time.Hour, 127 * testWindow, 128 * testWindow, 129 * testWindow,
		255 * testWindow, 256 * testWindow, 257 * testWindow, 24 * time.Hour, 1000 * time.Hour,
	}
	for i, d := range jump {
		for _, d := range []time.Duration{d, -2 * d, d + time.Millisecond} {
			h.StepWall(d)
			h.rotateTable()
			h.Advance(testTTL + testDeadline + time.Second)
			h.rotateTable()
			h.sweep()
			peer := h.peer("192.0.2.1").spoofed(i)
			peer.wantKnocks(peer.precomputedKnocks(alice, "ssh"))
			h.Advance(testTTL + testDeadline + time.Second)
			h.sweep()
			peer.wantGrants(0)
			h.Advance(3 * testWindow)
			h.rotateTable()
		}
	}
}

func TestTableIgnoresOldSlotAfterClockJump(t *testing.T) {
	// The table has eight bits of a slot's number, and has not been rebuilt
	// yet.
	for _, slots := range []time.Duration{2, 3, 127, 128, 129, 254, 255, 256, 257, 258, 512, 1 << 16} {
		for _, sign := range []time.Duration{1, -1} {
			h := newHarness(t, allMethods())
			peer := h.peer("192.0.2.1")
			packets := peer.precomputedKnocks(alice, "db")
			h.StepWall(sign * slots * testWindow)
			for i, b := range packets {
				if got := h.admit(b); got.Action != Drop {
					t.Errorf("%d slots later, packet %d: %v %v", sign*slots, i, got.Action, got.Reason)
				}
			}
			h.wantEmpty()
		}
	}
}

func TestTableHasNextSlots(t *testing.T) {
	h := newHarness(t, allMethods())
	peer := h.peer("192.0.2.1")
	for range 5 {
		for _, kind := range []expectedKind{expectSYN, expectV2, expectPart} {
			h.advanceToSlot(kind, time.Millisecond)
			h.rotateTable()
			h.Advance(time.Millisecond) // the slot begins, the table is of the one before
			peer.wantKnocks(peer.precomputedKnocks(alice, "ssh"))
			h.Advance(testTTL + testDeadline + time.Second)
			h.sweep()
			h.Advance(2 * testWindow)
			h.rotateTable()
		}
	}
}

func TestTableIsBuiltWithoutLock(t *testing.T) {
	const clients = 500
	h := newHarness(t, allMethods(withLegacySequences, withClients(manyClients(clients)...)))
	p := h.gate.policy.Load()
	perSlot := p.NumPrecomputed() / policy.SlotsKept
	if want := len(testServices) - 1; perSlot != want*clients*(1+3+3+1) { // all but the one without knocks
		t.Fatalf("%d HMACs a slot", perSlot)
	}
	ahead := func() int { return int(h.precomputed()) }
	for jump, want := range map[time.Duration]int{testWindow: perSlot, time.Hour: perSlot * policy.SlotsKept} {
		h.StepWall(jump)
		// As long as the test holds the lock, the builder does not. What it
		// computes meanwhile, which is all, it computes without the lock.
		before, old := ahead(), h.gate.knocks.Table()
		h.gate.mu.Lock()
		var finished atomic.Bool
		var run sync.WaitGroup
		run.Go(func() {
			h.gate.rotateTable(h.builder)
			finished.Store(true)
		})
		for ahead() < before+want {
			runtime.Gosched()
		}
		if finished.Load() || h.gate.knocks.Table() != old {
			t.Error("the table was replaced without the lock")
		}
		h.gate.mu.Unlock()
		run.Wait()
		if got := ahead() - before; got != want || h.gate.knocks.Table() == old {
			t.Errorf("%d HMACs after %v, want %d", got, jump, want)
		}
	}
}

func TestTableRotationKeepsMemory(t *testing.T) {
	const clients = 1000
	h := newHarness(t, func(o *Options) {
		allMethods(withClients(manyClients(clients)...), func(o *policy.Options) {
			o.Services = only(o.Services, "ssh4")
			o.Sequence.Slot = 10 * testWindow
		})(o)
	})
	p := h.gate.policy.Load()
	perSlot := clients * (1 + 3 + 1)
	size := h.gate.knocks.Table().Size()
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	day := int(24 * time.Hour / testWindow)
	var early uint64
	for turn := range day {
		h.Advance(testWindow)
		before := h.precomputed()
		h.gate.rotateTable(h.builder)
		if got := h.precomputed() - before; got != 2*clients && got != uint64(perSlot) {
			t.Fatalf("turn %d: %d HMACs", turn, got)
		}
		h.gate.sweep()
		if turn%100 != 50 {
			continue
		}
		used := 0
		for range h.gate.knocks.Table().Fields() {
			used++
		}
		if used != perSlot*policy.SlotsKept || h.gate.knocks.Table().Size() != size || 2*used > size {
			t.Fatalf("turn %d: %d of %d cells, want %d of %d", turn, used, h.gate.knocks.Table().Size(), perSlot*policy.SlotsKept, size)
		}
		// A client knocks by every method from time to time.
		peer, c := h.peer("192.0.2.1").spoofed(turn), p.Services()[0].Clients[turn%clients].Keys[0].Identity
		peer.wantKnocks(peer.precomputedKnocks(c, "ssh"))
		h.Advance(testTTL + testDeadline + time.Second)
		h.Advance(testWindow - testTTL - testDeadline - time.Second)
		h.gate.rotateTable(h.builder)
		h.worker.Sweep()
		h.sweep()
		h.events = h.events[:0]
		now := heap()
		if early == 0 {
			early = now
		}
		if now > early+1<<20 {
			t.Errorf("turn %d: %d KiB on the heap, %d early on", turn, now>>10, early>>10)
		}
	}
	h.Advance(time.Hour)
	h.gate.rotateTable(h.builder)
	h.worker.Sweep()
	h.sweep()
	h.wantEmpty()
}

// only returns the services with a name.
func only(all []policy.Service, name string) []policy.Service {
	return slices.DeleteFunc(all, func(s policy.Service) bool { return s.Name != name })
}

// manyClients returns n clients with one key each.
func manyClients(n int) []*policy.Client {
	all := make([]*policy.Client, n)
	for i := range all {
		all[i] = policy.NewClient(testClient(fmt.Sprintf("client-%05d", i)))
	}
	return all
}
