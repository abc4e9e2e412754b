//go:build unix

package privatefile

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestWriteAsRootChownsToParent(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	const account = 4711
	dir := t.TempDir()
	if err := os.Chown(dir, account, account); err != nil {
		t.Skip(err)
	}
	path := filepath.Join(dir, "key")
	if err := Write(path, []byte("one"), false); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if s := info.Sys().(*syscall.Stat_t); s.Uid != account || s.Gid != account || info.Mode().Perm() != 0o600 {
		t.Errorf("it has owner %d, group %d, %v", s.Uid, s.Gid, info.Mode())
	}
}

func TestMakeDirectoryAsRootChowns(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	const account = 4711
	dir := t.TempDir()
	if err := os.Chown(dir, account, account); err != nil {
		t.Skip(err)
	}
	path := filepath.Join(dir, "clients.d")
	for range 2 { // made, and there already
		if err := MakeDirectory(path); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if s := info.Sys().(*syscall.Stat_t); s.Uid != account || s.Gid != account || info.Mode().Perm() != 0o700 {
		t.Errorf("it has owner %d, group %d, %v", s.Uid, s.Gid, info.Mode())
	}
}

func TestChownDirToParentReplaced(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	const account = 4711
	roots := t.TempDir()
	for name, replace := range map[string]func(path string) error{
		"a link": func(path string) error { return os.Symlink(roots, path) },
		"a file": func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"one that is not empty": func(path string) error {
			return os.MkdirAll(filepath.Join(path, "kept"), 0o700)
		},
		"another's": func(path string) error {
			return errors.Join(os.Mkdir(path, 0o700), os.Chown(path, account+1, 0))
		},
	} {
		dir := t.TempDir()
		if err := os.Chown(dir, account, account); err != nil {
			t.Skip(err)
		}
		path := filepath.Join(dir, "clients.d")
		if err := replace(path); err != nil {
			t.Fatal(err)
		}
		if err := chownDirToParent(path); err == nil {
			t.Errorf("%s: no error", name)
		}
		for _, p := range []string{roots, path} {
			info, err := os.Stat(p)
			if err != nil {
				t.Fatal(err)
			}
			if s := info.Sys().(*syscall.Stat_t); s.Uid == account {
				t.Errorf("%s: %s has a new owner", name, p)
			}
		}
	}
}

func TestReadPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skip(err)
	}
	if _, err := Read(path, 10); err == nil {
		t.Error("a pipe was read")
	}
}
