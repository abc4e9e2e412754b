package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/knockgw/knockgw/internal/termsafe"
)

// Permission bits of one class, as in fs.FileMode.
const (
	mayRead  = 4
	mayWrite = 2
	mayEnter = 1
)

// may reports whether the account has all of want for a file, by its mode.
func (a Account) may(f File, want fs.FileMode) bool {
	if a.UID == 0 {
		return true
	}
	bits := f.Mode.Perm()
	switch {
	case f.UID == a.UID:
		bits >>= 6
	case slices.Contains(a.GIDs, f.GID):
		bits >>= 3
	}
	return bits&want == want
}

// may reports whether the account has all of want for a path, including access
// to the directories above it.
func (c *checker) may(path string, want fs.FileMode) (bool, error) {
	if c.RunAs != nil && c.host.Access != nil {
		err := c.RunAs(func() error { return c.host.Access(path, want) })
		if errors.Is(err, fs.ErrPermission) {
			return false, nil
		}
		return err == nil, err
	}
	f, err := c.host.File(path)
	if err != nil || !c.Account.may(f, want) {
		return false, err
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if f, err := c.host.File(dir); err == nil && !c.Account.may(f, mayEnter) {
			return false, nil
		}
		if filepath.Dir(dir) == dir {
			return true, nil
		}
	}
}

// unreadableDir returns the topmost directory above path that the account cannot
// enter, or "".
func (c *checker) unreadableDir(path string) string {
	found := ""
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if ok, err := c.may(dir, mayEnter); !ok && err == nil {
			found = dir
		}
		if filepath.Dir(dir) == dir {
			return found
		}
	}
}

// accessFix returns the command that gives the account access to a path.
func (c *checker) accessFix(path string) string {
	if dir := c.unreadableDir(path); dir != "" {
		return "chmod o+x " + termsafe.Shell(dir)
	}
	return fmt.Sprintf("chown %s %s", termsafe.Shell(c.Account.Name), termsafe.Shell(path))
}
