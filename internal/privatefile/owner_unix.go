//go:build unix

package privatefile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// nonblock makes opening a pipe return without a writer.
const nonblock = syscall.O_NONBLOCK

// chownToParent gives a file that root writes to the owner of its directory,
// who has to read it.
func chownToParent(f *os.File, dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok && s.Uid != 0 {
		return f.Chown(int(s.Uid), int(s.Gid))
	}
	return nil
}

// chownDirToParent gives a new directory to the owner of its parent. That
// account could replace the directory before it is opened here, so a link is
// not followed, and a directory that is not empty or not owned by root is
// rejected.
func chownDirToParent(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	d, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	err = chownNewDir(d, filepath.Dir(path))
	return errors.Join(err, d.Close())
}

func chownNewDir(d *os.File, dir string) error {
	info, err := d.Stat()
	if err != nil {
		return err
	}
	_, err = d.Readdirnames(1)
	if s, ok := info.Sys().(*syscall.Stat_t); !ok || s.Uid != 0 || !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s was replaced while it was made; check which processes write to %s", d.Name(), dir)
	}
	return chownToParent(d, dir)
}

// ownedByRoot reports whether root owns a file.
func ownedByRoot(info fs.FileInfo) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && s.Uid == 0
}

// ownedBySelf reports whether a file belongs to this process's account.
func ownedBySelf(info fs.FileInfo) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(s.Uid) == os.Geteuid()
}

// inGroupOf reports whether this process is in the group of a file.
func inGroupOf(info fs.FileInfo) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	if int(s.Gid) == os.Getegid() {
		return true
	}
	groups, err := os.Getgroups()
	return err == nil && slices.Contains(groups, int(s.Gid))
}
