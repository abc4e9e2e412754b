package privatefile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestWriteReadBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	for _, content := range []string{"one", "two"} {
		if err := Write(path, []byte(content), true); err != nil {
			t.Fatal(err)
		}
		got, err := Read(path, 3)
		if err != nil || string(got) != content {
			t.Errorf("read %q, %v", got, err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
}

func TestWriteExistingFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := Write(path, []byte("one"), false); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, []byte("two"), false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the error is %v", err)
	}
	if got, err := Read(path, 3); err != nil || string(got) != "one" {
		t.Errorf("it is %q now, %v", got, err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestReadInsecureMode(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such modes")
	}
	path := filepath.Join(t.TempDir(), "key")
	if err := Write(path, nil, false); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o601, 0o620} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := Read(path, 1)
		if open := (*AccessError)(nil); !errors.As(err, &open) || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %v: the error is %v", mode, err)
		}
	}
}

func TestReadNotSmallRegularFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	if err := Write(path, []byte("four"), false); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path, 3); err == nil || !strings.Contains(err.Error(), "more than 3 bytes") {
		t.Errorf("too large: %v", err)
	}
	if _, err := Read(dir, 3); err == nil {
		t.Error("a directory was read")
	}
	if _, err := Read(filepath.Join(dir, "other"), 3); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
}
