package privatefile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// ownedDirectory returns a directory of another account that contains a link to
// a directory of root.
func ownedDirectory(t *testing.T) (dir, link, roots string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	const account = 4711
	dir, roots = t.TempDir(), t.TempDir()
	link = filepath.Join(dir, "clients.d")
	if err := errors.Join(os.Chown(dir, account, account), os.Symlink(roots, link), os.Lchown(link, account, account)); err != nil {
		t.Skip(err)
	}
	return dir, link, roots
}

func TestTrustedDirectoryForeignLink(t *testing.T) {
	_, link, roots := ownedDirectory(t)
	kept := filepath.Join(roots, "kept.yaml")
	if err := os.WriteFile(kept, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, do := range map[string]func() error{
		"write":              func() error { return Write(filepath.Join(link, "alice.yaml"), nil, false) },
		"replace":            func() error { return Write(filepath.Join(link, "kept.yaml"), []byte("x"), true) },
		"remove":             func() error { return Remove(filepath.Join(link, "kept.yaml")) },
		"make a directory":   func() error { return MakeDirectory(filepath.Join(link, "new")) },
		"through a relative": func() error { return Write(filepath.Join(link, "..", "clients.d", "alice.yaml"), nil, false) },
	} {
		if err := do(); err == nil || !strings.Contains(err.Error(), "root does not follow") {
			t.Errorf("%s: %v", name, err)
		}
	}
	entries, err := os.ReadDir(roots)
	if err != nil || len(entries) != 1 {
		t.Errorf("in root's directory there is %v, %v", entries, err)
	}
	if info, err := os.Stat(kept); err != nil || info.Size() != 0 {
		t.Errorf("its file was touched: %v", err)
	}
}

func TestTrustedDirectoryRootLink(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "real"), 0o700), os.Symlink("real", filepath.Join(dir, "relative")),
		os.Symlink(filepath.Join(dir, "relative"), filepath.Join(dir, "absolute"))); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "absolute", "key")
	if err := Write(path, []byte("one"), false); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(filepath.Join(dir, "real", "key"), 3); err != nil || string(got) != "one" {
		t.Errorf("read %q, %v", got, err)
	}
	if err := Write(path, []byte("two"), false); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("the error is %v, and should name %s", err, path)
	}
	if err := Remove(path); err != nil {
		t.Error(err)
	}
}
