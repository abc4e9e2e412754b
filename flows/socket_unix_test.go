//go:build unix

package flows

import (
	"errors"
	"sync"
	"syscall"
	"testing"
)

func TestASocketWithNothingToReadHoldsNoBuffer(t *testing.T) {
	near, _ := loopback(t)
	s := newSocket(near).(*tcpSocket)
	taken := 0
	s.lease = &lease{pool: &sync.Pool{New: func() any { taken++; b := make([]byte, bufferSize); return &b }}}
	err := s.raw.Control(func(fd uintptr) {
		if s.tryRead(fd) || !errors.Is(s.err, syscall.EAGAIN) {
			t.Errorf("read %d, %v from an idle socket", s.n, s.err)
		}
	})
	if err != nil || taken != 1 || s.lease.b != nil {
		t.Errorf("a buffer is held while there is nothing to read (%d taken, %v)", taken, err)
	}
}
