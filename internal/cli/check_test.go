package cli

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestCheckWarnsOfUnwritableAudit(t *testing.T) {
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

func TestCheckPreviewsReload(t *testing.T) {
	g := newFakeGateway(t)
	out, _, err := runCommandLine(t, nil, "check", "--config", g.config, "-o", "json")
	var got checkResult
	if err := errors.Join(err, json.Unmarshal([]byte(out), &got)); err != nil {
		t.Fatal(err)
	}
	if r := got.Gateway; r == nil || r.Changes == nil || !slices.Equal(r.Changes.PendingRestart, []string{"tun.mtu"}) || r.File != got.File {
		t.Errorf("%s", out)
	}
	g.result.Config = "/another.yaml"
	out, _, err = runCommandLine(t, nil, "check", "--config", g.config, "-o", "json")
	got = checkResult{}
	if err := errors.Join(err, json.Unmarshal([]byte(out), &got)); err != nil {
		t.Fatal(err)
	}
	if r := got.Gateway; r == nil || r.Changes != nil || r.File != "/another.yaml" {
		t.Errorf("of another file: %s", out)
	}
}

func TestCheckQuotesUnprintableNames(t *testing.T) {
	config := filepath.Join(t.TempDir(), "knockgw.yaml")
	text := "version: 1\ntun: {routes: [10.77.0.0/24]}\nclients: [{id: \"a\\u202eb\\e[31m\\nc\", secret: \"" + aliceSecret + "\"}]\n" +
		"services: [{name: ssh, listen: \"10.77.0.1:22\", upstream: \"10.0.2.2:22\"}]\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _, err := runCommandLine(t, nil, "check", "--config", config)
	if err != nil || !strings.Contains(out, `"a\u202eb\x1b[31m\nc"`) {
		t.Errorf("%v: %q", err, out)
	}
}
