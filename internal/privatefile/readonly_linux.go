package privatefile

import (
	"os"

	"golang.org/x/sys/unix"
)

// isReadOnlyMount reports whether f is on a read-only mount, where chmod fails,
// too.
func isReadOnlyMount(f *os.File) bool {
	var s unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &s); err != nil {
		return false
	}
	return s.Flags&unix.ST_RDONLY != 0
}
