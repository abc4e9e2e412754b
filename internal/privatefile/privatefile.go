// Package privatefile reads and writes files that contain secrets. It rejects
// files that accounts other than their owner can read, and writes atomically.
package privatefile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

const (
	// Others are the permissions of accounts other than a file's owner.
	Others fs.FileMode = 0o077
	// filePerm is the mode of a new file.
	filePerm fs.FileMode = 0o600
)

// Read returns the content of a regular file of at most limit bytes that only
// its owner can read, or that is mounted read-only for this process
// (mounted.go). On Windows, permissions are not checked. Errors of the system
// are returned unchanged; the others name the file and the remedy.
func Read(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|nonblock, 0) // the user chooses the path
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only

	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file; name one", path)
	}
	if err := checkAccess(f, info); err != nil {
		return nil, err
	}

	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes; is it the right file?", path, limit)
	}
	return data, nil
}

// Write writes a file that only its owner can read. The owner is this process's
// account, or, if that is root, the owner of the directory. The file is written
// to a temporary name, synced and then renamed, so that it is never incomplete,
// and a crash leaves either the old or the new content. Without replace, an
// existing file is kept and the error is fs.ErrExist. As root, Write follows no
// link of another account in the path (trustedDirectory).
func Write(path string, data []byte, replace bool) error {
	dir, name := filepath.Split(path)
	return withDirectory(dir, func(dir string) error { return write(dir, name, data, replace) })
}

// Remove deletes a file. As root, it follows no link of another account.
func Remove(path string) error {
	dir, name := filepath.Split(path)
	return withDirectory(dir, func(dir string) error { return os.Remove(filepath.Join(dir, name)) })
}

// withDirectory calls do with a path that refers to the same directory even if
// another account changes a link.
func withDirectory(dir string, do func(dir string) error) error {
	if dir == "" {
		dir = "."
	}
	name, release, err := trustedDirectory(dir)
	if err != nil {
		return err
	}
	err = do(name)
	if name != dir {
		renameInError(err, name, dir)
	}
	return errors.Join(err, release())
}

// renameInError replaces the internal path in a system error by the caller's.
func renameInError(err error, name, dir string) {
	rename := func(path *string) {
		if rest, ok := strings.CutPrefix(*path, name); ok {
			*path = filepath.Join(dir, rest)
		}
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		rename(&path.Path)
	}
	var link *os.LinkError
	if errors.As(err, &link) {
		rename(&link.Old)
		rename(&link.New)
	}
}

// write is Write in a trusted directory.
func write(dir, name string, data []byte, replace bool) error {
	path := filepath.Join(dir, name)
	f, err := os.CreateTemp(dir, "."+name+".*.tmp") // with mode 0600
	if err != nil {
		return err
	}

	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(filePerm)
		if runtime.GOOS == "windows" {
			err = nil // Windows has no such modes
		}
	}
	if err == nil {
		err = chownToParent(f, dir)
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())

	if err == nil {
		err = move(f.Name(), path, replace)
	}
	if err != nil {
		return errors.Join(err, remove(f.Name()))
	}
	return syncDir(dir)
}

// dirPerm is the mode of a new directory.
const dirPerm fs.FileMode = 0o700

// MakeDirectory makes a directory that only its owner can use, with the same
// owner as a file of [Write]. The parent must exist. An existing directory is
// not changed.
func MakeDirectory(path string) error {
	parent, name := filepath.Split(filepath.Clean(path))
	return withDirectory(parent, func(parent string) error {
		path := filepath.Join(parent, name)
		err := os.Mkdir(path, dirPerm)
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return chownDirToParent(path)
	})
}

// move renames a file. Without replace, it uses a hard link, which does not
// replace an existing file; on a file system without links, it checks for one
// first.
func move(from, to string, replace bool) error {
	if replace {
		return os.Rename(from, to)
	}
	err := os.Link(from, to)
	if err == nil {
		return os.Remove(from)
	}
	if errors.Is(err, fs.ErrExist) {
		return &fs.PathError{Op: "create", Path: to, Err: fs.ErrExist}
	}
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "create", Path: to, Err: fs.ErrExist}
	}
	return os.Rename(from, to)
}

// remove deletes a file if it exists.
func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// syncDir makes a new name survive a crash, on systems that can sync
// directories.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
