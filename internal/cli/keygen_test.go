package cli

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestKeygenSecretIsValid(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if _, _, err := runCommandLine(t, nil, "keygen", "--out", path); err != nil {
		t.Fatal(err)
	}
	if _, err := targetOf(t, "10.77.0.1:22", "--client", "alice", "--secret-file", path); err != nil {
		t.Error(err)
	}
	if _, _, err := runCommandLine(t, nil, "keygen", "--out", path); err == nil {
		t.Error("overwrote a secret")
	}
	if out, _, err := runCommandLine(t, nil, "keygen"); err != nil || !strings.HasPrefix(out, "hex:") {
		t.Errorf("%v", err)
	}
}
