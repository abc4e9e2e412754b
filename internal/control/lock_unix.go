//go:build unix

package control

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// lockTries is how often it is tried to lock a directory, lockPause apart: as long as
// somebody else may look whether anybody listens.
const (
	lockTries = 40
	lockPause = 50 * time.Millisecond
)

// lock keeps other gateways from making a socket in a directory until unlock, so that of
// two which find one that was left behind the second does not remove the first's. Where
// the directory cannot be read it does nothing, and who holds it for longer is no
// gateway: neither keeps one from starting.
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
