package filter

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/knockgw/knockgw/packet"
)

const (
	// markTicks is markTime in ticks, and the one that has begun already.
	markTicks = int32(markTime/TickTime) + 1
	// floodTicks is FloodTime, likewise.
	floodTicks = uint64(FloodTime/TickTime) + 1
	// mostExpected bounds the table of expected knocks: 8 bytes for half of the
	// places, twice. (Ten thousand clients with every method for one service are
	// 200,000.) Beyond it, every SYN with the Timestamps option to a service that
	// takes SYN knocks passes, and every datagram of udp-v2's size.
	mostExpected = 1 << 20
	// mostPorts bounds the trie: ports and prefixes of services.
	mostPorts = 1 << 14
	// license is that of the program, which calls nothing that is for GPL programs only.
	license = "Apache-2.0"
)

// A Filter is the program and its tables. All methods are safe for concurrent
// use, but for Expect and SetPolicy, each of which is to be called once at a
// time. What the gate calls takes no system call and allocates nothing.
type Filter struct {
	maps    []*ebpf.Map
	mapped  [][]byte
	program *ebpf.Program
	dropped *ebpf.Map
	trie    *ebpf.Map
	secret  secret

	counting sync.Mutex // held while counts are read

	ports map[port]uint64 // in the trie; SetPolicy's

	mu       sync.Mutex // guards all below; the program reads what it does without
	control  []uint64
	listed   tags
	expected []uint64 // two tables of the same size
	awaited  int      // knocks that are expected, whether there is room for them or not
	services int      // places taken in the trie
	traced   map[packet.Addr]bool
	closed   bool
	passing  uint64 // the tick until which everything passes
	watched  bool   // everything passes for somebody to see it
	changing bool   // everything passes while the policy changes, too; and while something is spilt
}

// Open makes a filter. Errors: ErrUnsupported, fs.ErrPermission (needs CAP_BPF,
// or CAP_SYS_ADMIN before Linux 5.8), or what the kernel said.
func Open(o Options) (f *Filter, err error) {
	f = &Filter{traced: make(map[packet.Addr]bool), ports: make(map[port]uint64)}
	defer func() {
		if err != nil {
			_ = f.Close()
			f, err = nil, explain(err)
		}
	}()
	var seed [16]byte
	_, _ = rand.Read(seed[:]) // never fails
	f.secret = secret{binary.NativeEndian.Uint64(seed[:]), binary.NativeEndian.Uint64(seed[8:])}
	// A flow, its source and its source's site are three; a source without flows is one.
	b := builder{
		secret:          f.secret,
		listedBuckets:   bucketsFor(3*o.Flows + o.Sources),
		expectedBuckets: bucketsFor(min(o.Expected, mostExpected)),
	}
	if f.control, b.maps.control, err = f.memory("control", controlFields*8, 1); err != nil {
		return f, err
	}
	if f.listed.places, b.maps.listed, err = f.memory("listed", bucketTags*8, b.listedBuckets); err != nil {
		return f, err
	}
	f.listed.spilt = make(map[uint64]int)
	if f.expected, b.maps.expected, err = f.memory("expected", bucketTags*8, 2*b.expectedBuckets); err != nil {
		return f, err
	}
	if _, b.maps.marks, err = f.table(&ebpf.MapSpec{Name: "marks", Type: ebpf.Array, ValueSize: 8, MaxEntries: marks}); err != nil {
		return f, err
	}
	if f.trie, b.maps.ports, err = f.table(&ebpf.MapSpec{
		Name: "ports", Type: ebpf.LPMTrie, KeySize: trieKey, ValueSize: 8, MaxEntries: mostPorts, Flags: unix.BPF_F_NO_PREALLOC,
	}); err != nil {
		return f, err
	}
	if f.dropped, b.maps.dropped, err = f.table(&ebpf.MapSpec{
		Name: "dropped", Type: ebpf.PerCPUArray, ValueSize: 8, MaxEntries: uint32(reasonCount),
	}); err != nil {
		return f, err
	}
	f.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "knockgw", Type: ebpf.SocketFilter, Instructions: b.build(), License: license,
	})
	if err != nil {
		return f, fmt.Errorf("load the packet filter: %w", err)
	}
	f.control[controlTick] = 1 // so that 0 is over
	return f, f.setPorts(&o.Policy)
}

// table makes a map, with indexes of 4 bytes for keys unless spec says otherwise.
func (f *Filter) table(spec *ebpf.MapSpec) (m *ebpf.Map, fd int, err error) {
	if spec.KeySize == 0 {
		spec.KeySize = 4
	}
	if m, err = ebpf.NewMap(spec); err != nil {
		return nil, -1, fmt.Errorf("make the packet filter's table %s: %w", spec.Name, err)
	}
	f.maps = append(f.maps, m)
	return m, m.FD(), nil
}

// memory makes a map of n values of size bytes that are read and written as
// memory, in words.
func (f *Filter) memory(name string, size, n int) (words []uint64, fd int, err error) {
	_, fd, err = f.table(&ebpf.MapSpec{
		Name: name, Type: ebpf.Array, ValueSize: uint32(size), MaxEntries: uint32(n), Flags: unix.BPF_F_MMAPABLE,
	})
	if err != nil {
		return nil, -1, err
	}
	page := unix.Getpagesize()
	b, err := unix.Mmap(fd, 0, (size*n+page-1)/page*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, -1, fmt.Errorf("map the packet filter's table %s: %w", name, err)
	}
	f.mapped = append(f.mapped, b)
	return asWords(b)[:size*n/8], fd, nil
}

// FD is the program's file descriptor, for the device.
func (f *Filter) FD() int { return f.program.FD() }

// Close gives back what Open took. A device that has the program keeps it. What
// is told to a closed filter is forgotten.
func (f *Filter) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	f.counting.Lock()
	defer f.counting.Unlock()
	var errs []error
	if f.program != nil {
		errs = append(errs, f.program.Close())
	}
	for _, b := range f.mapped {
		errs = append(errs, unix.Munmap(b))
	}
	for _, m := range f.maps {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

func (f *Filter) get(field int) uint64    { return f.control[field] }
func (f *Filter) set(field int, n uint64) { atomic.StoreUint64(&f.control[field], n) }

// lock takes f.mu, unless the filter is closed.
func (f *Filter) lock() bool {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return false
	}
	return true
}

// Tick moves the filter's clock on. It is to be called every TickTime, and may be
// called late.
func (f *Filter) Tick() {
	if !f.lock() {
		return
	}
	defer f.mu.Unlock()
	f.set(controlTick, f.get(controlTick)+1)
}

// passAwhile has everything pass until knocks that have passed unmarked are the
// gate's for sure. The caller holds f.mu.
func (f *Filter) passAwhile() {
	f.passing = f.get(controlTick) + uint64(markTicks)
	f.settle()
}

// settle tells the program until when everything passes. The caller holds f.mu.
func (f *Filter) settle() {
	if f.changing || f.watched || len(f.listed.spilt) > 0 {
		f.set(controlPassing, forever)
	} else {
		f.set(controlPassing, f.passing)
	}
}

// Trace has every packet of a source pass, or no longer.
func (f *Filter) Trace(a netip.Addr, on bool) {
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
	f.set(controlTraced, uint64(len(f.traced)))
	k := addrKey(&addr, kindTraced)
	f.listLocked(f.secret.hash(&k), on)
}

// Watch has every packet of everybody pass, or no longer.
func (f *Filter) Watch(on bool) {
	if !f.lock() {
		return
	}
	defer f.mu.Unlock()
	f.watched = on
	f.settle()
}

// Tables returns how full the tables are. Those of flows and sources, and of
// expected knocks, are meant to be half full at the most: this is of the half.
func (f *Filter) Tables() []Table {
	if !f.lock() {
		return nil
	}
	defer f.mu.Unlock()
	return []Table{
		{"filter_flows_and_sources", f.listed.n + len(f.listed.spilt), len(f.listed.places) / 2},
		{"filter_expected_knocks", f.awaited, len(f.expected) / 2 / 2},
		{"filter_service_ports", f.services, mostPorts},
	}
}

// Counts returns how many packets were dropped for each reason.
func (f *Filter) Counts() ([]Count, error) {
	counts := make([]Count, reasonCount)
	var each []uint64 // by processor
	f.counting.Lock()
	defer f.counting.Unlock()
	for r := range reasonCount {
		if err := f.dropped.Lookup(uint32(r), &each); err != nil {
			return nil, fmt.Errorf("read the packet filter's counts: %w", err)
		}
		counts[r].Reason = r
		for _, n := range each {
			counts[r].Packets += n
		}
	}
	return counts, nil
}
