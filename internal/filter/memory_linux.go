package filter

import (
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// mapMemory maps the values of an array into this process, in words of 8 bytes,
// which the program and this process read and write one at a time. Close unmaps
// them.
func (f *Filter) mapMemory(m *ebpf.Map) ([]uint64, error) {
	size, page := int(m.ValueSize()*m.MaxEntries()), unix.Getpagesize()
	b, err := unix.Mmap(m.FD(), 0, (size+page-1)/page*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the packet filter's table %v: %w", m, err)
	}
	f.mapped = append(f.mapped, b)
	return unsafe.Slice((*uint64)(unsafe.Pointer(&b[0])), size/8), nil //nolint:gosec // a page is aligned for words
}

// asControl returns the control words in the memory of their map.
func asControl(words []uint64) *programControlWords {
	_ = words[unsafe.Sizeof(programControlWords{})/8-1]
	return (*programControlWords)(unsafe.Pointer(&words[0])) //nolint:gosec // it consists of words
}
