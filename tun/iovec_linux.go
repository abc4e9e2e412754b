package tun

import "unsafe"

// set points the vector at the virtio-net header and the parts of a packet.
// The parts stay reachable through the caller's slice until clear.
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
	w.iov[w.n].Base = unsafe.SliceData(b) //nolint:gosec // writev takes addresses
	w.iov[w.n].SetLen(len(b))
	w.n++
}

// clear drops the references to what was sent.
func (w *write) clear() { clear(w.iov[:w.n]) }

// base is the vector's address for the system call, which follows at once.
func (w *write) base() uintptr {
	first := &w.iov[0]
	return uintptr(unsafe.Pointer(first)) //nolint:gosec // writev takes the address of its vector
}
