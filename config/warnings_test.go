package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestWarningsNoEffect(t *testing.T) {
	for keys, want := range map[string]string{
		"mode: auth, grant: {uses: 2}":     "test.yaml:5: services[0].grant: has no effect in mode auth",
		"mode: auth, session: optional":    "test.yaml:5: services[0].session: has no effect in mode auth",
		"mode: knock, auth: {proof: true}": "test.yaml:5: services[0].auth: has no effect in mode knock",
	} {
		c := mustParse(t, withService(keys))
		if len(c.Warnings) != 1 || !strings.HasPrefix(c.Warnings[0], want) {
			t.Errorf("%s: warnings %q", keys, c.Warnings)
		}
	}
}

func TestWarningsMethodKeys(t *testing.T) {
	udp := withService("knock: [udp]")
	for _, c := range []struct {
		text string
		want []string
	}{
		{udp + "knock: {gateway: a}", []string{"test.yaml:6: knock.gateway: has no effect: no service accepts udp-v2"}},
		{udp + "knock: {slot: 10s}", []string{"test.yaml:6: knock.slot: has no effect: no service accepts udp-v2"}},
		{udp + "knock: {sequence: {legacy: true}}", []string{"test.yaml:6: knock.sequence.legacy: has no effect: no service accepts tcp-syn-seq"}},
		{udp + "knock: {window: 1m}", nil},
		{minimal + "knock: {gateway: a, slot: 30s, sequence: {legacy: true}}", nil},
		{minimal + "knock: {slot: 10s}", []string{"test.yaml:6: knock.slot: udp-v2 knocks of clocks that differ by more than knock.slot, 10s"}},
		{minimal + "knock: {window: 1m}", []string{"test.yaml:6: knock.window: udp-v2 knocks of clocks that differ by more than knock.slot, 30s"}},
		{minimal + "knock: {window: 1m, slot: 1m}", nil},
		{minimal + "knock: {window: 10s}", nil},
		{minimal + "ban: {after: 0, within: 1m, for: 1m}", []string{"test.yaml:6: ban.within: has no effect: after is 0", "test.yaml:6: ban.for: has no effect"}},
		{minimal + "ban: {after: 0}", nil},
		{minimal + "limits: {flows: 100}", nil},
		{minimal + "limits: {flows: 100, flows_per_client: 101, flows_per_source: 101}",
			[]string{"test.yaml:6: limits.flows_per_client: has no effect", "test.yaml:6: limits.flows_per_source: has no effect"}},
		{withClientKeys("max_flows: 101") + "limits: {flows: 100}", []string{"test.yaml:3: clients[0].max_flows: has no effect: limits.flows, the total, is 100"}},
		{withClientKeys("max_flows: 100, max_grants: 300") + "limits: {flows: 100}", nil},
	} {
		wantWarnings(t, warnings(t, c.text), c.want)
	}
}

func TestLoadWarnsInsecureFile(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no permission bits")
	}
	name := copyExample(t)
	if err := os.Chmod(name, 0o644); err != nil { // the point
		t.Fatal(err)
	}
	c, err := Load(name, beforeItsDates)
	if err != nil || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "chmod 600") {
		t.Fatalf("%v, %v", c, err)
	}
}

func TestLoadUnreadableFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "none.yaml")
	_, err := Load(name)
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, fs.ErrNotExist) || e.File != name || e.Line != 0 {
		t.Fatalf("got %#v", err)
	}
}

func TestWarningsTrialDecryption(t *testing.T) {
	for _, c := range []struct {
		clients int
		knock   string
		warns   bool
	}{
		{maxTrialClients, "", false}, {maxTrialClients + 1, "", true}, {maxTrialClients + 1, "knock: [udp-v2, tcp-syn], ", false},
		{maxTrialClients + 1, "knock: [udp-seq], ", true},
	} {
		var b strings.Builder
		b.WriteString("version: 1\ntun: {routes: [10.77.0.0/24]}\nclients:\n")
		for i := range c.clients {
			fmt.Fprintf(&b, "  - {id: c%d, secret: \"hex:%064x\"}\n", i, i+1)
		}
		b.WriteString("services:\n")
		for port := range 3 {
			fmt.Fprintf(&b, "  - {%sname: s%d, listen: \"10.77.0.1:%d\", upstream: \"10.0.2.2:22\"}\n", c.knock, port, port+1)
		}
		cfg, err := Parse("many.yaml", []byte(b.String()))
		if err != nil {
			t.Fatal(err)
		}
		warned := 0
		for _, w := range cfg.Warnings {
			if strings.Contains(w, "s0 (and 2 other services) accepts knocks of the methods udp and udp-seq") {
				warned++
			}
		}
		if want := map[bool]int{true: 1}[c.warns]; warned != want {
			t.Errorf("%d clients, %q: %d warnings: %v", c.clients, c.knock, warned, cfg.Warnings)
		}
	}
}
