package tun

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// point has an element of a vector mean b, which it keeps reachable.
func point(v *unix.Iovec, b []byte) {
	v.Base = unsafe.SliceData(b) //nolint:gosec // readv and writev take addresses
	v.SetLen(len(b))
}

// address is a vector's address for the system call, which follows at once.
func address(first *unix.Iovec) uintptr {
	return uintptr(unsafe.Pointer(first)) //nolint:gosec // readv and writev take the address of their vector
}

// set points the vector at the virtio-net header and the parts of a packet.
func (w *write) set(parts [][]byte) {
	w.n = 0
	w.add(w.header[:])
	for _, p := range parts {
		if len(p) > 0 {
			w.add(p)
		}
	}
}

func (w *write) add(b []byte) {
	point(&w.iov[w.n], b)
	w.n++
}

// clear drops the references to what was sent.
func (w *write) clear() { clear(w.iov[:w.n]) }
