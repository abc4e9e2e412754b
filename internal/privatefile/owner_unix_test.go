//go:build unix

package privatefile

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestWhatRootWritesIntoAnothersDirectoryIsThatOnes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	const somebody = 4711
	dir := t.TempDir()
	if err := os.Chown(dir, somebody, somebody); err != nil {
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
	if s := info.Sys().(*syscall.Stat_t); s.Uid != somebody || s.Gid != somebody || info.Mode().Perm() != 0o600 {
		t.Errorf("it is %d's and %d's, %v", s.Uid, s.Gid, info.Mode())
	}
}

func TestADirectoryThatRootMakesInAnothersIsThatOnes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	const somebody = 4711
	dir := t.TempDir()
	if err := os.Chown(dir, somebody, somebody); err != nil {
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
	if s := info.Sys().(*syscall.Stat_t); s.Uid != somebody || s.Gid != somebody || info.Mode().Perm() != 0o700 {
		t.Errorf("it is %d's and %d's, %v", s.Uid, s.Gid, info.Mode())
	}
}
