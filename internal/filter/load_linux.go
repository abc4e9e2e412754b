package filter

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/cilium/ebpf"
)

// forever is a tick that never comes.
const forever = math.MaxUint64

// objects are the program and its tables in the kernel. Names are those of
// bpf/tables.h.
type objects struct {
	Program  *ebpf.Program `ebpf:"knockgw"`
	Control  *ebpf.Map     `ebpf:".data.control"`
	Entries  *ebpf.Map     `ebpf:"entries"`
	Expected *ebpf.Map     `ebpf:"expected"`
	Services *ebpf.Map     `ebpf:"services"`
	Dropped  *ebpf.Map     `ebpf:"dropped"`
}

// Close closes what was loaded. The kernel keeps a program that is attached, and
// its tables.
func (o *objects) Close() error {
	return errors.Join(o.Program.Close(), o.Control.Close(), o.Entries.Close(), o.Expected.Close(),
		o.Services.Close(), o.Dropped.Close())
}

// load loads the program, with tables of the sizes in o, and maps the tables
// that this process writes into memory.
func (f *Filter) load(o *Options) error {
	spec, err := loadProgram()
	if err != nil {
		return err
	}

	// A flow, its source and its source's subnet are three entries; a source
	// without flows is one.
	entries, expected := bucketsFor(3*o.Flows+o.Sources), bucketsFor(min(o.Expected, maxExpected))
	spec.Maps[programMapEntries].MaxEntries = uint32(entries)
	spec.Maps[programMapExpected].MaxEntries = uint32(2 * expected)
	spec.Maps[programMapServices].MaxEntries = maxEndpoints

	f.secret = newSecret()
	for name, value := range map[string]any{
		programVarSecret0:      f.secret[0],
		programVarSecret1:      f.secret[1],
		programVarEntriesBits:  uint32(indexBits(entries)),
		programVarExpectedBits: uint32(indexBits(expected)),
		programVarMarkTicks:    uint32(markTicks),
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("set the packet filter's constant %s: %w", name, err)
		}
	}
	if err := spec.LoadAndAssign(&f.objects, nil); err != nil {
		return fmt.Errorf("load the packet filter: %w", err)
	}

	control, err := f.mapMemory(f.objects.Control)
	if err != nil {
		return err
	}
	f.control = asControl(control)
	f.entries.overflow = make(map[uint64]int)
	if f.entries.slots, err = f.mapMemory(f.objects.Entries); err != nil {
		return err
	}
	f.expected, err = f.mapMemory(f.objects.Expected)
	return err
}

// newSecret draws a key for the hash.
func newSecret() secret {
	var seed [16]byte
	_, _ = rand.Read(seed[:]) // never fails
	return secret{binary.NativeEndian.Uint64(seed[:]), binary.NativeEndian.Uint64(seed[8:])}
}
