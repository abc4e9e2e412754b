package filter

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/knockgw/knockgw/packet"
)

const (
	// markTicks is markTime in ticks, and the one that has begun already.
	markTicks = uint64(markDuration/TickInterval) + 1
	// cookieTicks is CookieWindow in ticks, and the one that has begun already.
	cookieTicks = uint64(CookieWindow/TickInterval) + 1
	// maxExpected bounds the table of expected knocks: 8 bytes for half of the
	// slots, twice. (Ten thousand clients with every method for one service are
	// 200,000.) Beyond it, every SYN with the Timestamps option to a service
	// that accepts SYN knocks passes, and every datagram of udp-v2's size.
	maxExpected = 1 << 20
	// maxEndpoints bounds the trie: ports and prefixes of services.
	maxEndpoints = 1 << 14
)

// A Filter is the program and its tables. All methods are safe for concurrent
// use, except that Expect and SetPolicy must each be called by one goroutine at
// a time. The methods that the gate calls make no system call and allocate
// nothing.
type Filter struct {
	objects objects
	mapped  [][]byte // memory of the tables
	secret  secret

	counting sync.Mutex // held while counts are read

	endpoints map[endpoint]programAccepts // in the trie; SetPolicy's

	mu            sync.Mutex // guards all below; the program reads the tables without it
	control       *programControlWords
	entries       fingerprints
	expected      []uint64 // two tables of the same size
	expectedCount int      // expected knocks, whether there is room for them or not
	numEndpoints  int      // in the trie
	traced        map[packet.Addr]bool
	closed        bool
	bypassUntil   uint64 // the tick until which every packet passes
	bypassTrace   bool   // every packet passes because of a trace
	reconfiguring bool   // every packet passes because the policy changes
}

// Open makes a filter. Errors: ErrUnsupported, fs.ErrPermission (needs CAP_BPF,
// or CAP_SYS_ADMIN before Linux 5.8), or what the kernel said.
func Open(o Options) (*Filter, error) {
	f := &Filter{traced: make(map[packet.Addr]bool)}
	err := f.load(&o)
	if err == nil {
		f.control.Tick = 1 // so that 0 is in the past
		if o.Policy != nil {
			err = f.setServices(o.Policy)
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, explain(err)
	}
	return f, nil
}

// FD returns the program's file descriptor, to attach to the device.
func (f *Filter) FD() int { return f.objects.Program.FD() }

// Close releases the program and its tables. A device that has the program keeps
// it. The methods of a closed filter do nothing.
func (f *Filter) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true

	f.counting.Lock()
	defer f.counting.Unlock()
	errs := []error{f.objects.Close()}
	for _, b := range f.mapped {
		errs = append(errs, unix.Munmap(b))
	}
	return errors.Join(errs...)
}

// set writes a word that the program reads.
func set(word *uint64, n uint64) { atomic.StoreUint64(word, n) }

// lock acquires f.mu and returns true, unless the filter is closed.
func (f *Filter) lock() bool {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return false
	}
	return true
}

// Tick advances the filter's clock. It must be called every TickInterval, and
// may be called late.
func (f *Filter) Tick() {
	if !f.lock() {
		return
	}
	defer f.mu.Unlock()
	set(&f.control.Tick, f.control.Tick+1)
}

// bypassBriefly passes every packet until the gate has read the knocks that have
// passed unmarked. The caller holds f.mu.
func (f *Filter) bypassBriefly() {
	f.bypassUntil = f.control.Tick + markTicks
	f.updateBypass()
}

// updateBypass sets until when every packet passes. The caller holds f.mu.
func (f *Filter) updateBypass() {
	if f.reconfiguring || f.bypassTrace || len(f.entries.overflow) > 0 {
		set(&f.control.BypassUntil, forever)
	} else {
		set(&f.control.BypassUntil, f.bypassUntil)
	}
}

// BypassSource makes every packet of a source pass, or stops that.
func (f *Filter) BypassSource(a netip.Addr, on bool) {
	addr := packet.AddrFrom(a)
	if !f.lock() {
		return
	}
	defer f.mu.Unlock()
	if f.traced[addr] == on {
		return
	}
	if on {
		f.traced[addr] = true
	} else {
		delete(f.traced, addr)
	}

	set(&f.control.Traced, uint64(len(f.traced)))
	k := addrKey(&addr, kindTraced)
	f.updateEntry(f.secret.hash(&k), on)
}

// BypassAll makes every packet pass, or stops that.
func (f *Filter) BypassAll(on bool) {
	if !f.lock() {
		return
	}
	defer f.mu.Unlock()
	f.bypassTrace = on
	f.updateBypass()
}

// Tables returns how full the tables are. The tables of fingerprints work up to
// half of their slots, which is their limit here.
func (f *Filter) Tables() []Table {
	if !f.lock() {
		return nil
	}
	defer f.mu.Unlock()
	return []Table{
		{"filter_flows_and_sources", f.entries.n + len(f.entries.overflow), len(f.entries.slots) / 2},
		{"filter_expected_knocks", f.expectedCount, f.Capacity()},
		{"filter_service_ports", f.numEndpoints, maxEndpoints},
	}
}

// Counts returns how many packets were dropped for each reason.
func (f *Filter) Counts() ([]Count, error) {
	counts := make([]Count, reasonCount)
	var perCPU []uint64

	f.counting.Lock()
	defer f.counting.Unlock()
	for r := range reasonCount {
		if err := f.objects.Dropped.Lookup(uint32(r), &perCPU); err != nil {
			return nil, fmt.Errorf("read the counts of the packet filter: %w", err)
		}
		counts[r].Reason = r
		for _, n := range perCPU {
			counts[r].Packets += n
		}
	}
	return counts, nil
}
