package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/knockgw/knockgw/internal/connlimit"
)

const (
	// socketMode lets the owner and the group in.
	socketMode = 0o660
	// directoryMode is that of the socket's directory, where it is made.
	directoryMode = 0o750
	// probeTime bounds the question whether somebody listens at a socket already.
	probeTime = time.Second
)

// Listen makes the socket, and its directory if there is none. A socket that a
// dead process has left behind is replaced; ErrTaken says that the process lives.
func Listen(socket string) (*Server, error) {
	fail := func(err error) (*Server, error) {
		return nil, fmt.Errorf("control.socket: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(socket), directoryMode); err != nil {
		return fail(err)
	}
	unlock := lock(filepath.Dir(socket))
	defer unlock()
	if err := removeStale(socket); err != nil {
		return fail(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return fail(err)
	}
	if err := os.Chmod(socket, socketMode); err != nil {
		return fail(errors.Join(err, l.Close()))
	}
	p, err := peersOf(socket)
	if err != nil {
		return fail(errors.Join(err, l.Close()))
	}
	return &Server{listener: &connlimit.Listener{Listener: l, Max: MaxConnections}, peers: p}, nil
}

// CheckFree returns ErrTaken if a process listens at the socket. It changes nothing.
func CheckFree(socket string) error {
	c, err := net.DialTimeout("unix", socket, probeTime)
	if err != nil {
		return nil // Listen says what is wrong, if anything is
	}
	_ = c.Close()
	return fmt.Errorf("control.socket: %s: %w", socket, ErrInUse)
}

// removeStale removes a socket at which nobody listens.
func removeStale(socket string) error {
	info, err := os.Lstat(socket)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is there and is no socket; remove it, or name another", socket)
	}
	c, err := net.DialTimeout("unix", socket, probeTime)
	if err == nil {
		_ = c.Close()
		return fmt.Errorf("%s: %w", socket, ErrInUse)
	}
	if !nobodyListens(err) {
		return err
	}
	return os.Remove(socket)
}
