//go:build linux

package bench_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/knockgw/knockgw/test/bench/load"
	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	memoryRounds = 1
	// perIdleFlow is the goal in KiB of resident memory.
	perIdleFlow = 24

	// Memory is steady when so many samples in a row differ by no more than a
	// share; it is read in the end even if it never is.
	steadySamples = 6
	steadyEvery   = 500 * time.Millisecond
	steadyShare   = 0.01
	steadyTime    = 20 * time.Second

	kibibyte = 1 << 10
	mebibyte = 1 << 20

	// ownFiles is more descriptors than a proxy needs besides those of its
	// flows.
	ownFiles = 512
)

// memory is what admitted flows take that say nothing.
func (b *bench) memory(t *testing.T) {
	n := rounds(t, memoryRounds)
	p := b.report.part("memory", "Memory of a proxy's process with so many flows; each has exchanged a few bytes "+
		"and then says nothing, when it has become steady.", ours, theirs)
	for range n {
		for _, name := range []string{ours, theirs} {
			b.idle(t, p, name)
		}
	}
}

// idle measures one contestant in a lab of its own, with nothing in memory from
// before.
func (b *bench) idle(t *testing.T, p *part, name string) {
	l := newLab(t)
	server := start(t, l.Upstream, &load.Echo{Listen: upstreamOf(l)})
	s := b.newSite(t, l)
	all := s.contestants()
	c := all[slices.IndexFunc(all, func(c contestant) bool { return c.name == name })]
	before := settle(p, c, 0)
	if name == ours {
		s.open(t, l.Client.Addr4)
	}
	var holding []*lab.Process
	flows := 0
	for _, count := range []int{1000, 10_000} {
		more := count - flows
		if most := affordable(t, name); flows+more > most {
			more = most - flows
			p.row(memoryRow(count), "MiB").note("%s: %d flows, for want of descriptors", name, most)
		}
		holding = append(holding, start(t, l.Client, &load.Idle{Target: c.target, Count: more}))
		flows += more
		after := settle(p, c, count)
		perFlow := func(after, before int) float64 { return float64(after-before) / float64(flows) / kibibyte }
		flow := p.row(fmt.Sprintf("each of %d flows", count), "KiB")
		if count == 10_000 {
			flow.wants(atMost(perIdleFlow).of(ours))
		}
		flow.add(name, perFlow(after.Resident, before.Resident))
		p.row(fmt.Sprintf("each of %d flows, without files", count), "KiB").add(name, perFlow(after.Anonymous, before.Anonymous))
	}
	// The lab is there until the part is over; the other contestant is to have
	// the machine for itself.
	for _, h := range append(holding, server, s.gateway.Process, s.haproxy) {
		h.Kill()
	}
}

func memoryRow(flows int) string { return fmt.Sprintf("resident with %d flows", flows) }

// affordable is how many flows a contestant has descriptors for: knockgw needs
// one for each, HAProxy two.
func affordable(t *testing.T, name string) int {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	most := int(limit.Max) - ownFiles
	if name == theirs {
		most /= 2
	}
	return most
}

// settle waits until the memory is steady and notes it.
func settle(p *part, c contestant, flows int) lab.Memory {
	var samples []lab.Memory
	for began := time.Now(); ; time.Sleep(steadyEvery) {
		samples = append(samples, c.proxy.Memory())
		if time.Since(began) > steadyTime || steady(samples) {
			break
		}
	}
	m := samples[len(samples)-1]
	p.row(memoryRow(flows), "MiB").add(c.name, float64(m.Resident)/mebibyte)
	p.row(memoryRow(flows)+", its share", "MiB").add(c.name, float64(m.Proportional)/mebibyte)
	return m
}

func steady(samples []lab.Memory) bool {
	if len(samples) < steadySamples {
		return false
	}
	least, most := samples[len(samples)-1].Resident, 0
	for _, m := range samples[len(samples)-steadySamples:] {
		least, most = min(least, m.Resident), max(most, m.Resident)
	}
	return float64(most-least) <= steadyShare*float64(most)
}
