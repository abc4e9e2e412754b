//go:build unix

package stdio

import (
	"io"
	"io/fs"
	"math"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// pipeSpace is how many bytes a pipe or terminal accepts without blocking
	// once it is writable.
	pipeSpace = 4096
	// socketSpace is the same for a socket, which is not writable before much of
	// its buffer of some 200 KiB is free.
	socketSpace = 16 << 10
)

// pollFile waits with poll(2) before each read and write. Inherited descriptors
// may be shared with other processes, and Go's poller would have to make them
// non-blocking for all of them.
type pollFile struct {
	f      *os.File
	events int16 // for poll
	chunk  int   // bytes written at once

	wakeWriter *os.File   // closed by Close
	mu         sync.Mutex // held while wakeReader is in use
	wakeReader *os.File   // nil when closed
}

func interruptibleReader(f *os.File) io.ReadCloser {
	s, err := newPollFile(f, unix.POLLIN)
	if err != nil {
		return io.NopCloser(f) // works, without interruption
	}
	return s
}

func interruptibleWriter(f *os.File) io.WriteCloser {
	s, err := newPollFile(f, unix.POLLOUT)
	if err != nil {
		return nopCloser{f}
	}
	if info, err := f.Stat(); err == nil {
		switch mode := info.Mode(); {
		case mode.IsRegular():
			s.chunk = math.MaxInt // never blocks
		case mode&fs.ModeSocket != 0:
			s.chunk = socketSpace
		}
	}
	return s
}

func newPollFile(f *os.File, events int16) (*pollFile, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	return &pollFile{f: f, events: events, chunk: pipeSpace, wakeWriter: w, wakeReader: r}, nil
}

// wait returns when the file is ready, or with os.ErrClosed after Close.
func (s *pollFile) wait() error {
	raw, err := s.f.SyscallConn()
	if err != nil {
		return err
	}
	var failure error
	err = raw.Control(func(fd uintptr) {
		polled := []unix.PollFd{{Fd: int32(fd), Events: s.events}, {Fd: int32(s.wakeReader.Fd()), Events: unix.POLLIN}}
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

// Read implements io.Reader.
func (s *pollFile) Read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wakeReader == nil {
		return 0, os.ErrClosed
	}
	if err := s.wait(); err != nil {
		return 0, err
	}
	return s.f.Read(b)
}

// Write implements io.Writer. It writes no more at once than the file accepts
// without blocking.
func (s *pollFile) Write(b []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(b) > 0 {
		if s.wakeReader == nil {
			return n, os.ErrClosed
		}
		if err := s.wait(); err != nil {
			return n, err
		}
		written, err := s.f.Write(b[:min(len(b), s.chunk)])
		n += written
		if err != nil {
			return n, err
		}
		b = b[written:]
	}
	return n, nil
}

// Close interrupts a blocked Read or Write. The file stays open.
func (s *pollFile) Close() error {
	_ = s.wakeWriter.Close() // wakes poll; an error means that it was closed before
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wakeReader != nil {
		_ = s.wakeReader.Close() // not in use: the lock is held
		s.wakeReader = nil
	}
	return nil
}
