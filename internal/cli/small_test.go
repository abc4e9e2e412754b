package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/control"
)

func TestRemoveAndRevokeOfNoClientEndAlike(t *testing.T) {
	path, _ := answering(t, 0, "")
	_, _, err := execute(t, "client", "remove", "nosuch", "--config", path)
	if got, want := exitCode(err), exitCode(&control.RefusedError{Problems: []string{"there is no client"}}); got != want {
		t.Errorf("client remove ends with %d, revoke with %d", got, want)
	}
}

func TestQuantityHasASingular(t *testing.T) {
	for n, want := range map[int]string{0: "0 flows", 1: "1 flow", 2: "2 flows"} {
		if got := pluralize(n, "flow"); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}

func TestImportOfAnotherFileSaysSoPlainly(t *testing.T) {
	for _, junk := range []string{"\x7fELF\x02\x01", "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n", "<html>", "a: b: c", "#!/bin/sh\n"} {
		if _, err := parseImport("x", []byte(junk)); err == nil || !strings.Contains(err.Error(), "neither a profile nor its URI") {
			t.Errorf("%q: %v", junk, err)
		}
	}
	if _, err := parseImport("x", []byte("client: alice\n")); err == nil || strings.Contains(err.Error(), "neither a profile") {
		t.Errorf("an incomplete profile: %v", err)
	}
}

func TestJSONLogSpellsDurations(t *testing.T) {
	var out bytes.Buffer
	log, err := logger(&out, "json", "info")
	if err != nil {
		t.Fatal(err)
	}
	log.Info("stopping", "drain", 5*time.Second)
	if !strings.Contains(out.String(), `"drain":"5s"`) {
		t.Error(out.String())
	}
}

func TestCheckWarnsOfAnAuditThatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	if got := auditWarnings(filepath.Join(dir, "audit.log")); got != nil {
		t.Error(got)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("it left %v, %v", entries, err)
	}
	if got := auditWarnings(filepath.Join(dir, "none", "audit.log")); len(got) != 1 || !strings.Contains(got[0], "create its directory") {
		t.Error(got)
	}
	if got := auditWarnings(dir); len(got) != 1 {
		t.Error("a directory was taken for the file")
	}
}
