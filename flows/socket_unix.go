//go:build unix

package flows

import (
	"io"
	"net"
	"os"
	"syscall"
)

// A tcpSocket is a kernel connection that takes a buffer only once there is
// something to read, and makes system calls without notifying the scheduler.
type tcpSocket struct {
	*net.TCPConn
	raw syscall.RawConn
	in  readOp
	out writeOp
}

func newTCPSocket(c *net.TCPConn) Conn {
	raw, err := c.SyscallConn()
	if err != nil {
		return stream{c} // it is closed, and Read will return the error
	}
	s := &tcpSocket{TCPConn: c, raw: raw}
	s.in.call = s.in.do
	s.out.call = s.out.do
	return s
}

// Abort implements Conn.
func (s *tcpSocket) Abort() { abortTCP(s.TCPConn) }

// readInto implements bufReader: one system call if there is data, and no
// buffer held if there is none.
func (s *tcpSocket) readInto(l *pooledBuf) (int, error) {
	r := &s.in
	r.lease = l
	if err := s.raw.Read(r.call); err != nil {
		return 0, err
	}
	if r.err != 0 {
		return 0, os.NewSyscallError("read", r.err)
	}
	if r.n == 0 {
		return 0, io.EOF
	}
	return r.n, nil
}

// A readOp is one read in progress. Only one goroutine reads.
type readOp struct {
	lease *pooledBuf
	n     int
	err   syscall.Errno
	call  func(fd uintptr) bool
}

// do runs on the descriptor. It returns false to wait until it is readable.
func (r *readOp) do(fd uintptr) bool {
	r.n, r.err = recv(fd, r.lease.get())
	if r.err == syscall.EAGAIN {
		r.lease.put()
		return false
	}
	return true
}

// Write implements net.Conn.
func (s *tcpSocket) Write(b []byte) (int, error) {
	w := &s.out
	w.b, w.err = b, 0
	err := s.raw.Write(w.call)
	if err == nil && w.err != 0 {
		err = os.NewSyscallError("write", w.err)
	}
	n := len(b) - len(w.b)
	w.b = nil
	return n, err
}

// A writeOp is one write in progress. Only one goroutine writes.
type writeOp struct {
	b    []byte // not yet written
	err  syscall.Errno
	call func(fd uintptr) bool
}

// do runs on the descriptor. It returns false to wait until it is writable.
func (w *writeOp) do(fd uintptr) bool {
	for len(w.b) > 0 {
		var n int
		n, w.err = send(fd, w.b)
		w.b = w.b[n:]
		if w.err != 0 {
			return w.err != syscall.EAGAIN
		}
	}
	return true
}
