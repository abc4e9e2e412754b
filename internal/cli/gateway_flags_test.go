package cli

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
)

func TestSocketFlagWithoutConfig(t *testing.T) {
	g := newFakeGateway(t)
	socket := filepath.Join(filepath.Dir(g.config), "s")
	for _, line := range []string{
		"status", "flows", "grants", "clients", "bans", "bans remove 10.0.0.0/8", "revoke --all", "reload", "reload --dry-run",
		"trace --from 10.1.1.2", "capture -o -",
	} {
		args := append(strings.Fields(line), "--config", "gone.yaml")
		if out, _, err := runCommandLine(t, nil, append(args, "--socket", socket)...); err != nil || out == "" {
			t.Errorf("%s: %q, %v", line, out, err)
		}
		_, _, err := runCommandLine(t, nil, args...)
		var said bytes.Buffer
		report(&said, err)
		if exitCode(err) != exitConfiguration || !strings.Contains(said.String(), "--socket") || !strings.HasPrefix(said.String(), "gone.yaml: ") {
			t.Errorf("%s without it: %s", line, said.String())
		}
	}
	out, _, err := runCommandLine(t, nil, "check", "--config", g.config, "--socket", socket)
	if err != nil || !strings.Contains(out, "A reload would change") {
		t.Errorf("check: %s %v", out, err)
	}
	_, _, err = runCommandLine(t, nil, "status", "--socket", socket+"2")
	var said bytes.Buffer
	report(&said, err)
	if want := "knockgw: no gateway is running at " + socket + "2; use --socket if its socket is elsewhere\n"; said.String() != want {
		t.Errorf("%s", said.String())
	}
}
