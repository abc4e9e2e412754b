//go:build unix

package flows

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// tcpSocket is a kernel connection that takes a buffer only once there is
// something to read.
type tcpSocket struct {
	*net.TCPConn
	raw syscall.RawConn

	// One read in progress; only one goroutine reads.
	lease *lease
	n     int
	err   error
	try   func(fd uintptr) bool
}

func newTCPSocket(c *net.TCPConn) Conn {
	s := &tcpSocket{TCPConn: c}
	s.try = s.tryRead
	if raw, err := c.SyscallConn(); err == nil {
		s.raw = raw // otherwise it is closed already, and Read will say so
	}
	return s
}

// readLease implements leaser: one system call where there is data, and no
// buffer held while there is none.
func (s *tcpSocket) readLease(l *lease) (int, error) {
	if s.raw == nil {
		return s.Read(l.take())
	}
	s.lease = l
	if err := s.raw.Read(s.try); err != nil {
		return 0, err
	}
	if s.err != nil {
		return 0, os.NewSyscallError("read", s.err)
	}
	if s.n == 0 {
		return 0, io.EOF
	}
	return s.n, nil
}

// tryRead runs on the descriptor; false waits until it is readable.
func (s *tcpSocket) tryRead(fd uintptr) bool {
	for {
		s.n, s.err = syscall.Read(int(fd), s.lease.take())
		switch {
		case errors.Is(s.err, syscall.EINTR):
			continue
		case errors.Is(s.err, syscall.EAGAIN):
			s.lease.drop()
			return false
		default:
			return true
		}
	}
}

// Abort implements Conn.
func (s *tcpSocket) Abort() { abortTCP(s.TCPConn) }
