package audit

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFileRotatesWhenFull(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.log")
	f, err := OpenFile(FileOptions{Path: path, MaxBytes: 10, Keep: 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"1111\n", "2222\n", "3333\n", "4444\n", "5555\n", "6666\n", "7777\n", "a line longer than a file\n", "9\n"} {
		if _, err := f.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"audit.log": "9\n", "audit.log.1": "a line longer than a file\n", "audit.log.2": "7777\n",
	} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || string(got) != want {
			t.Errorf("%s is %q, %v; want %q", name, got, err, want)
		}
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && info.Mode().Perm()&0o007 != 0 {
			t.Errorf("%s is readable by others: %v", name, info.Mode())
		}
	}
	if files, _ := os.ReadDir(dir); len(files) != 3 {
		t.Errorf("%d files", len(files))
	}
}

func TestFileAppendsAfterRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	for range 2 {
		f, err := OpenFile(FileOptions{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte("x\n")); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := os.ReadFile(path); string(got) != "x\nx\n" {
		t.Errorf("%q", got)
	}
}

func TestFileStopsGrowingIfItCannotRotate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.log")
	f, err := OpenFile(FileOptions{Path: path, MaxBytes: 4, Keep: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("xxx\n")); err != nil {
		t.Fatal(err)
	}
	block := filepath.Join(dir, "audit.log.1", "in the way")
	if err := os.MkdirAll(block, 0o700); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := f.Write([]byte("yyy\n")); err == nil {
			t.Error("written, beyond the bound")
		}
	}
	if err := os.RemoveAll(filepath.Dir(block)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("zzz\n")); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(path); string(got) != "zzz\n" {
		t.Errorf("%q", got)
	}
}

func TestFileReopensAfterRename(t *testing.T) {
	for _, one := range []struct {
		name string
		do   func(path string) error
		old  string // what the moved one has then
		want string
	}{
		{"moved", func(path string) error { return os.Rename(path, path+".moved") }, "1\n", "2\n3\n"},
		{"removed", os.Remove, "", "2\n3\n"},
		{"moved and made", func(path string) error {
			return errors.Join(os.Rename(path, path+".moved"), os.WriteFile(path, nil, 0o640))
		}, "1\n", "2\n3\n"},
		{"truncated", func(path string) error { return os.Truncate(path, 0) }, "", "2\n3\n"},
	} {
		t.Run(one.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "audit.log")
			f, err := OpenFile(FileOptions{Path: path, MaxBytes: 5})
			if err != nil {
				t.Fatal(err)
			}
			for i, line := range []string{"1\n", "2\n", "3\n"} {
				if i == 1 {
					if err := one.do(path); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := f.Write([]byte(line)); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			if got, _ := os.ReadFile(path); string(got) != one.want {
				t.Errorf("%q", got)
			}
			if got, _ := os.ReadFile(path + ".moved"); string(got) != one.old {
				t.Errorf("the moved one has %q", got)
			}
			if _, err := os.Stat(path + ".1"); err == nil {
				t.Error("it was set aside, and is not full")
			}
		})
	}
}

func TestFileSeparatesPartialLine(t *testing.T) {
	for _, one := range []struct{ before, want string }{
		{"", "new\n"}, {"old\n", "old\nnew\n"}, {"ol", "ol\nnew\n"},
	} {
		path := filepath.Join(t.TempDir(), "audit.log")
		if err := os.WriteFile(path, []byte(one.before), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := OpenFile(FileOptions{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte("new\n")); err != nil {
			t.Error(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if got, _ := os.ReadFile(path); string(got) != one.want {
			t.Errorf("%q, want %q", got, one.want)
		}
	}
}

func TestFileRotatesPartialLineAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := OpenFile(FileOptions{Path: path, MaxBytes: 5})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("new\n")); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if got, _ := os.ReadFile(path); string(got) != "new\n" {
		t.Errorf("%q", got)
	}
}

func TestFileBoundsTotalSize(t *testing.T) {
	dir := t.TempDir()
	const size, keep, lines = 1 << 12, 2, 2000
	f, err := OpenFile(FileOptions{Path: filepath.Join(dir, "audit.log"), MaxBytes: size, Keep: keep})
	if err != nil {
		t.Fatal(err)
	}
	l := New(f, Options{PerSecond: lines})
	for range lines {
		l.Add(Event{Kind: Session, Client: "\x1b]0;x\a", Reason: strings.Repeat("\x00", 1<<10)})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Run(ctx); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != keep+1 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		b, err := os.ReadFile(filepath.Join(dir, file.Name()))
		if err != nil || len(b) > size {
			t.Errorf("%s: %d bytes, %v", file.Name(), len(b), err)
		}
		for line := range strings.Lines(string(b)) {
			if !json.Valid([]byte(line)) || strings.ContainsAny(line, "\x00\x1b\a") {
				t.Errorf("%s: %q", file.Name(), line)
			}
		}
		if info, err := file.Info(); err != nil || info.Mode().Perm()&0o027 != 0 {
			t.Errorf("%s: mode %v, %v", file.Name(), info.Mode(), err)
		}
	}
}
