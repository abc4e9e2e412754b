//go:build linux

package netns_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	// mayGrow is how much larger a footprint may be than one before.
	mayGrow = 1.10
	// threadsMore are threads that may come besides: Go makes one when all it
	// has wait for the kernel at the same moment, and never ends it.
	threadsMore = 4
	// objectsMore and bytesMore may come besides while the gateway still fills
	// up: with what it remembers for some time, of used messages and of
	// connections in TIME_WAIT, and with the buffers of its first traffic. That
	// is about 2,000 objects and 3 MB in the seconds of the short form; eighty
	// policies that were left behind would be some 100,000 objects.
	objectsMore = 5000
	bytesMore   = 8 << 20

	// footprintCollections is how many times the gateway must have collected
	// garbage, which the scrapes make, while it is looked at: what a pool keeps
	// goes with the second.
	footprintCollections = 3
	// fewestLooks is how many times it is looked at, and footprintTime for how
	// long at most.
	fewestLooks   = 25
	footprintTime = 30 * time.Second
	lookPause     = 10 * time.Millisecond
)

// A footprint is what an idle gateway uses.
type footprint map[string]float64

// Parts of a footprint that have to be told apart.
//
// The live heap is what the garbage collector found reachable, which says most
// of all: go_memstats_next_gc_bytes is in a fixed proportion to it, and does
// not depend on when in its cycle one looks. Of the number of objects the least
// of several looks counts, which is right behind a collection. The process's
// own memory is what the kernel sees: all of it, pages of the program among
// them, and its anonymous part, which is Go's heap and stacks.
const (
	liveHeap  = "live heap" + inBytes
	inUse     = "heap in use" + inBytes
	resident  = "VmRSS" + inBytes
	anonymous = "RssAnon" + inBytes
	objects   = "heap objects"
	threads   = "threads"
	inBytes   = ", bytes"
)

// footprint looks at the gateway several times while nothing happens, and takes
// the middle of what it saw.
func (o *operator) footprint(t *testing.T) footprint {
	t.Helper()
	seen := make(map[string][]float64)
	note := func(name string, n float64) { seen[name] = append(seen[name], n) }
	var alive []float64
	const collections = "go_gc_duration_seconds_count"
	first := o.gateway.Metrics()[collections]
	began := time.Now()
	for looks := 0; ; looks++ {
		m := o.gateway.Metrics()
		if m[collections] >= first+footprintCollections && looks >= fewestLooks {
			break
		}
		if time.Since(began) > footprintTime {
			t.Errorf("after %d looks the gateway has collected garbage %v times", looks, m[collections]-first)
			break
		}
		alive = append(alive, m["go_memstats_heap_objects"])
		note(inUse, m["go_memstats_heap_inuse_bytes"])
		note(liveHeap, m["go_memstats_next_gc_bytes"])
		note("goroutines", m["go_goroutines"])
		note("series of metrics", float64(len(m)))
		memory := o.gateway.Memory()
		note(resident, float64(memory.Resident))
		note(anonymous, float64(memory.Anonymous))
		note("descriptors", float64(o.gateway.Descriptors()))
		note("netlink sockets", float64(o.gateway.NetlinkSockets()))
		note(threads, float64(o.gateway.Threads()))
		time.Sleep(lookPause)
	}
	f := footprint{objects: slices.Min(alive)}
	for name, all := range seen {
		slices.Sort(all)
		f[name] = all[len(all)/2]
	}
	tables, words := o.gateway.Tables()
	f["eBPF tables"], f["entries of eBPF tables"] = float64(tables), float64(words)
	f["routes and rules"] = float64(o.Gateway.Ways())
	t.Logf("looked at for %v: %d times", time.Since(began).Round(time.Millisecond), len(alive))
	return f
}

// within fails the test if anything is larger than it was before. The gateway
// is filled if it then had been running for as long as it remembers anything.
func (f footprint) within(t *testing.T, before footprint, filled bool) {
	t.Helper()
	names := make([]string, 0, len(f))
	for name := range f {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		was, is := before[name], f[name]
		most := mayGrow * was
		switch {
		case name == threads:
			most += threadsMore
		case name == objects && !filled:
			most += objectsMore
		case strings.HasSuffix(name, inBytes) && !filled:
			most += bytesMore
		}
		change := ""
		if was != 0 {
			change = fmt.Sprintf(" (%+.1f %%)", 100*(is-was)/was)
		}
		t.Logf("%-25s %10.0f -> %10.0f%s", name, was, is, change)
		if is > most {
			t.Errorf("%s: %.0f have become %.0f", name, was, is)
		}
	}
}
