//go:build unix

package cli

import (
	"io"
	"io/fs"
	"math"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// pipeRoom is how many bytes can be written without waiting to a pipe or a terminal that is ready for any.
	pipeRoom = 4096
	// socketRoom is that for a socket, which is not ready before much of its buffer of some 200 KiB is free.
	socketRoom = 16 << 10
)

// standard is standard input or output, used through poll: what is inherited may be shared with other processes,
// and to have Go's poller wait for it, it would have to be made non-blocking for all of them.
type standard struct {
	f      *os.File
	events int16 // what to wait for
	room   int   // how many bytes to write at once
	wake   *os.File
	mu     sync.Mutex // held while woken is in use
	woken  *os.File   // nil when closed
}

func interruptibleInput(f *os.File) io.ReadCloser {
	s, err := newStandard(f, unix.POLLIN)
	if err != nil {
		return io.NopCloser(f) // it works, but cannot be interrupted
	}
	return s
}

func interruptibleOutput(f *os.File) io.WriteCloser {
	s, err := newStandard(f, unix.POLLOUT)
	if err != nil {
		return unclosed{f}
	}
	if info, err := f.Stat(); err == nil {
		switch mode := info.Mode(); {
		case mode.IsRegular():
			s.room = math.MaxInt // never waits
		case mode&fs.ModeSocket != 0:
			s.room = socketRoom
		}
	}
	return s
}

func newStandard(f *os.File, events int16) (*standard, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	return &standard{f: f, events: events, room: pipeRoom, wake: w, woken: r}, nil
}

// wait waits until the file is ready, or Close was called.
func (s *standard) wait() error {
	raw, err := s.f.SyscallConn()
	if err != nil {
		return err
	}
	var failure error
	err = raw.Control(func(fd uintptr) {
		polled := []unix.PollFd{{Fd: int32(fd), Events: s.events}, {Fd: int32(s.woken.Fd()), Events: unix.POLLIN}}
		for {
			switch _, failure = unix.Poll(polled, -1); {
			case failure == unix.EINTR:
				continue
			case failure == nil && polled[1].Revents != 0:
				failure = os.ErrClosed
			}
			return
		}
	})
	if err != nil {
		return err
	}
	return failure
}

// Read reads from the file.
func (s *standard) Read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.woken == nil {
		return 0, os.ErrClosed
	}
	if err := s.wait(); err != nil {
		return 0, err
	}
	return s.f.Read(b)
}

// Write writes to the file, no more at once than it takes without waiting.
func (s *standard) Write(b []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(b) > 0 {
		if s.woken == nil {
			return n, os.ErrClosed
		}
		if err := s.wait(); err != nil {
			return n, err
		}
		written, err := s.f.Write(b[:min(len(b), s.room)])
		n += written
		if err != nil {
			return n, err
		}
		b = b[written:]
	}
	return n, nil
}

// Close wakes who waits, and leaves the file open.
func (s *standard) Close() error {
	_ = s.wake.Close() // poll sees it; a second time it is closed already
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.woken != nil {
		_ = s.woken.Close() // nobody uses it
		s.woken = nil
	}
	return nil
}
