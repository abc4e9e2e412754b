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
	// socketMode gives access to the owner and the group.
	socketMode = 0o660
	// directoryMode is the mode of the socket's directory, if it is created.
	directoryMode = 0o750
	// probeTimeout limits the check whether a process listens at a socket.
	probeTimeout = time.Second
)

// Listen creates the socket, and its directory if there is none. A stale socket
// is replaced; the error is ErrInUse if a process listens at it.
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
	p, err := newAllowedPeers(socket)
	if err != nil {
		return fail(errors.Join(err, l.Close()))
	}
	return &Server{listener: &connlimit.Listener{Listener: l, Max: MaxConnections}, peers: p}, nil
}

// CheckFree returns ErrInUse if a process listens at the socket. It changes
// nothing.
func CheckFree(socket string) error {
	c, err := net.DialTimeout("unix", socket, probeTimeout)
	if err != nil {
		return nil // Listen reports other errors
	}
	_ = c.Close()
	return fmt.Errorf("control.socket: %s: %w", socket, ErrInUse)
}

// removeStale removes a socket at which no process listens.
func removeStale(socket string) error {
	info, err := os.Lstat(socket)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s exists and is not a socket; remove it, or name another", socket)
	}
	c, err := net.DialTimeout("unix", socket, probeTimeout)
	if err == nil {
		_ = c.Close()
		return fmt.Errorf("%s: %w", socket, ErrInUse)
	}
	if !isNotRunning(err) {
		return err
	}
	return os.Remove(socket)
}
