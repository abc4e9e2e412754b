package config

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSocketInvalidFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f.yaml")
	for _, c := range []struct{ text, want string }{
		{"control: {socket: /run/x.sock}\nno_such_key: 1\nclients: [{id: a, secret_file: missing}]\n", "/run/x.sock"},
		{"control: {socket: run/x.sock}\n", filepath.Join(dir, "run/x.sock")},
		{"control: {sockets: /run/x.sock}\n", ""},
		{"control: 7\n", ""},
		{"version: 1\n", ""},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := Socket(path); got != c.want || err != nil {
			t.Errorf("%q: %q, %v", c.text, got, err)
		}
	}
	if _, err := Socket(filepath.Join(dir, "missing.yaml")); err == nil {
		t.Error("a missing file has a socket")
	}
	if err := os.WriteFile(path, []byte("a: [\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Socket(path); err == nil {
		t.Error("a file that is no YAML has a socket")
	}
}
