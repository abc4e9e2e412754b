//go:build unix

package hold

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// othersWrite are the permissions with which others than a file's owner can
// change it.
const othersWrite fs.FileMode = 0o022

// trusted returns an error unless root, or the user who runs this, is alone in
// being able to change a file or directory.
func trusted(name string, info fs.FileInfo) error {
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid != 0 && int(owner.Uid) != os.Geteuid() || info.Mode().Perm()&othersWrite != 0 || info.Mode()&fs.ModeSymlink != 0 {
		return fmt.Errorf("%s: %w: root must own it, and no other account may write it; delete it, start the gateway, and run knockgw hold --save", name, ErrInvalid)
	}
	return nil
}
