// Package privatefile reads and writes files with secrets in them: those that others than their owner can
// read are refused, and a new one is there whole or not at all.
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
	// Others are the permissions of anybody but a file's owner.
	Others fs.FileMode = 0o077
	// filePerm is the mode of a file that is written.
	filePerm fs.FileMode = 0o600
)

// Read returns what is in a regular file of at most limit bytes that its owner
// alone can read, or that is mounted read-only for this process (mounted.go). On
// Windows permissions are not looked at. An error of the system is as it is; the
// others name the file and the remedy.
func Read(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|nonblock, 0) // the user names it
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
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

// Write makes a file that its owner alone can read: who writes it, or, if that is root, the owner of the
// directory. It is written beside its name, synced and then moved
// there, so that nobody sees a half of it, and a crash leaves the old one or the new. Without replace, a
// file that is there already stays, and the error is fs.ErrExist. Root follows
// no link of another account's on the way there (trustedDirectory).
func Write(path string, data []byte, replace bool) error {
	dir, name := filepath.Split(path)
	return withDirectory(dir, func(dir string) error { return write(dir, name, data, replace) })
}

// Remove deletes a file; root follows no link of another account's to it.
func Remove(path string) error {
	dir, name := filepath.Split(path)
	return withDirectory(dir, func(dir string) error { return os.Remove(filepath.Join(dir, name)) })
}

// withDirectory calls do with a name of a directory that stays the directory's.
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

// renameInError puts the name that the caller knows into an error of the system's.
func renameInError(err error, name, dir string) {
	spell := func(path *string) {
		if rest, ok := strings.CutPrefix(*path, name); ok {
			*path = filepath.Join(dir, rest)
		}
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		spell(&path.Path)
	}
	var link *os.LinkError
	if errors.As(err, &link) {
		spell(&link.Old)
		spell(&link.New)
	}
}

// write is Write into a directory.
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
			err = nil // it has no such modes
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

// dirPerm is the mode of a directory that only its owner may use.
const dirPerm fs.FileMode = 0o700

// MakeDirectory makes a directory that its owner alone can use, who is that of a file that is written
// where it is; its parent is there. One that is there already stays as it is.
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

// move gives a file its name. A link is how to do that without taking the name from another; a file
// system without links is looked at first.
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

// remove deletes a file that may be gone.
func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// syncDir makes a new name outlast a crash, where directories can be synced.
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
