//go:build unix

package flows

import (
	"sync"
	"syscall"
	"testing"
)

func TestSocketHoldsNoBuffer(t *testing.T) {
	near, _ := loopback(t)
	s := newSocket(near).(*tcpSocket)
	taken := 0
	s.in.lease = &pooledBuf{pool: &sync.Pool{New: func() any { taken++; b := make([]byte, bufferSize); return &b }}}
	err := s.raw.Control(func(fd uintptr) {
		if s.in.do(fd) || s.in.err != syscall.EAGAIN {
			t.Errorf("read %d, %v from an idle socket", s.in.n, s.in.err)
		}
	})
	if err != nil || taken != 1 || s.in.lease.b != nil {
		t.Errorf("a buffer is held while there is nothing to read (%d taken, %v)", taken, err)
	}
}
