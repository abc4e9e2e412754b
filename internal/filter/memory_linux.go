package filter

import "unsafe"

// asWords is memory of the kernel's, whole pages, as the words of which the
// program reads and writes one at a time.
func asWords(b []byte) []uint64 {
	return unsafe.Slice((*uint64)(unsafe.Pointer(&b[0])), len(b)/8) //nolint:gosec // a page is aligned for words
}
