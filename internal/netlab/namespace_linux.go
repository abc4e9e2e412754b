package netlab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netns"
)

// sysctlRoot holds the settings of the network namespace of the thread that
// opens the file.
const sysctlRoot = "/proc/sys/net"

// A Namespace is a network namespace held by its descriptor alone.
type Namespace struct {
	handle netns.NsHandle
}

// NewNamespace makes a namespace; the calling thread is back in its own when it
// returns. The error matches fs.ErrPermission if the caller may not make one.
func NewNamespace() (Namespace, error) {
	n := Namespace{handle: netns.None()}
	err := onThread(func() (err error) {
		n.handle, err = netns.New()
		return err
	})
	if err != nil {
		return n, fmt.Errorf("make a network namespace: %w", err)
	}
	return n, nil
}

// FD returns the descriptor that keeps the namespace alive.
func (n Namespace) FD() int { return int(n.handle) }

// Do runs f with the calling thread inside the namespace. A socket that f opens
// and a process that f starts stay in the namespace; a goroutine that f starts
// does not begin there.
func (n Namespace) Do(f func() error) error {
	return onThread(func() error {
		if err := netns.Set(n.handle); err != nil {
			return fmt.Errorf("enter a network namespace: %w", err)
		}
		return f()
	})
}

// Set changes a setting of the namespace, named as in "ipv4/ip_forward".
func (n Namespace) Set(name, value string) error {
	return n.Do(func() error {
		return os.WriteFile(filepath.Join(sysctlRoot, filepath.FromSlash(name)), []byte(value), 0o600)
	})
}

// Get reads a setting of the namespace.
func (n Namespace) Get(name string) (string, error) {
	var value string
	err := n.Do(func() error {
		b, err := os.ReadFile(filepath.Join(sysctlRoot, filepath.FromSlash(name)))
		value = strings.TrimSpace(string(b))
		return err
	})
	return value, err
}

// Close releases the namespace; it ends with the last process and socket in it.
func (n Namespace) Close() error {
	if !n.handle.IsOpen() {
		return nil
	}
	return n.handle.Close()
}

// onThread runs f on a thread whose namespace f may change, and restores the
// thread's namespace afterwards, also if f ends the goroutine. A thread that
// cannot be restored stays locked, so that it ends with its goroutine instead
// of serving another one in the wrong network.
func onThread(f func() error) (err error) {
	runtime.LockOSThread()
	original, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("find the current network namespace: %w", err)
	}

	defer func() {
		if failed := netns.Set(original); failed != nil {
			err = errors.Join(err, fmt.Errorf("leave a network namespace: %w", failed))
		} else {
			runtime.UnlockOSThread()
		}
		err = errors.Join(err, original.Close())
	}()
	return f()
}
