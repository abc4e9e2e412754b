//go:build unix

package control

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// lock tries lockTries times, lockPause apart: longer than another gateway
// needs to check whether a process listens.
const (
	lockTries = 40
	lockPause = 50 * time.Millisecond
)

// lock prevents other gateways from creating a socket in a directory until
// unlock: of two that find a stale socket, the second must not remove the
// first's new one. It does nothing if the directory cannot be read, and gives
// up if the lock is held for longer, since no gateway does that: neither
// prevents a start.
func lock(dir string) (unlock func()) {
	d, err := os.Open(dir)
	if err != nil {
		return func() {}
	}
	for range lockTries {
		if err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
			break
		}
		time.Sleep(lockPause)
	}
	return func() { _ = d.Close() }
}
