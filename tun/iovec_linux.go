package tun

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// setIovec points v at b. The pointer keeps b reachable.
func setIovec(v *unix.Iovec, b []byte) {
	v.Base = unsafe.SliceData(b) //nolint:gosec // readv and writev take addresses
	v.SetLen(len(b))
}

// iovecAddr returns the address of a vector, for use in the next system call
// only.
func iovecAddr(first *unix.Iovec) uintptr {
	return uintptr(unsafe.Pointer(first)) //nolint:gosec // readv and writev take the address of their vector
}

// set points the vector at the virtio-net header and the parts of a packet.
func (w *writeOp) set(parts [][]byte) {
	w.n = 0
	w.add(w.header[:])
	for _, p := range parts {
		if len(p) > 0 {
			w.add(p)
		}
	}
}

func (w *writeOp) add(b []byte) {
	setIovec(&w.iov[w.n], b)
	w.n++
}

// clear drops the references to what was sent.
func (w *writeOp) clear() { clear(w.iov[:w.n]) }
