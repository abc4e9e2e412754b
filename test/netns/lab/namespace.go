//go:build linux

package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netns"
)

// sysctlRoot holds the settings of the network namespace of the thread that opens the file.
const sysctlRoot = "/proc/sys/net"

// A namespace is a network namespace held by descriptor alone.
type namespace struct {
	handle netns.NsHandle
}

// newNamespace makes a namespace; the calling thread is back in its own when it returns.
func newNamespace() (namespace, error) {
	n := namespace{handle: netns.None()}
	err := visiting(func() (err error) {
		n.handle, err = netns.New()
		return err
	})
	if err != nil {
		return n, fmt.Errorf("make a network namespace: %w", err)
	}
	return n, nil
}

// Do runs f with the calling thread inside the namespace. A socket that f opens and a process that f starts
// stay in the namespace afterwards; a goroutine that f starts does not begin there.
func (n namespace) Do(f func() error) error {
	return visiting(func() error {
		if err := netns.Set(n.handle); err != nil {
			return fmt.Errorf("enter a network namespace: %w", err)
		}
		return f()
	})
}

// set changes one setting of the namespace, named as in "ipv4/ip_forward".
func (n namespace) set(name, value string) error {
	return n.Do(func() error {
		return os.WriteFile(filepath.Join(sysctlRoot, filepath.FromSlash(name)), []byte(value), 0o600)
	})
}

// get reads one setting of the namespace.
func (n namespace) get(name string) (string, error) {
	var value string
	err := n.Do(func() error {
		b, err := os.ReadFile(filepath.Join(sysctlRoot, filepath.FromSlash(name)))
		value = strings.TrimSpace(string(b))
		return err
	})
	return value, err
}

// close gives the namespace up; it ends with the last process and socket inside.
func (n namespace) close() error {
	if !n.handle.IsOpen() {
		return nil
	}
	return n.handle.Close()
}

// visiting runs f on a thread whose namespace f may change, and takes the thread home afterwards, also when f
// ends the test. A thread that cannot go home stays locked, so that it ends with its goroutine instead of
// serving another one in the wrong network.
func visiting(f func() error) (err error) {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("find the current network namespace: %w", err)
	}
	defer func() {
		if back := netns.Set(home); back != nil {
			err = errors.Join(err, fmt.Errorf("leave a network namespace: %w", back))
		} else {
			runtime.UnlockOSThread()
		}
		err = errors.Join(err, home.Close())
	}()
	return f()
}
