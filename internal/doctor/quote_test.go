package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/knockgw/knockgw/internal/bypass"
)

// hostileNames are names that an account can write into its files, or that the
// kernel permits for an interface.
var hostileNames = []string{"a;touch EVIL", "$(touch EVIL)", "`touch EVIL`", "a'b;touch EVIL;'", "a\ntouch EVIL", "a\"b", "-rf", "\x1b[2J", "a b", "#x", "a&touch EVIL"}

// Runs every command of a fix, without the commands of the host in the path:
// only a name could run something.
func TestFixesQuoteNames(t *testing.T) {
	t.Parallel()
	for _, name := range hostileNames {
		var commands []string
		for _, f := range hostileFindings(t, name) {
			if f.Fix != "" {
				commands = append(commands, f.Fix)
			}
		}
		if len(commands) < 8 {
			t.Fatalf("%q: only %d commands: %q", name, len(commands), commands)
		}
		for _, command := range commands {
			dir := t.TempDir()
			runHarmless(t, dir, command)
			if _, err := os.Stat(filepath.Join(dir, "EVIL")); err == nil {
				t.Errorf("%q runs in\n%s", name, command)
			}
			if strings.ContainsAny(command, "\n\x1b") {
				t.Errorf("%q is printed unquoted: %q", name, command)
			}
		}
	}
}

// runHarmless runs a command with bash, with only touch in its path.
func runHarmless(t *testing.T, dir, command string) {
	t.Helper()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("bash is missing")
	}
	touch, err := exec.LookPath("touch")
	if err != nil {
		t.Skip("touch is missing")
	}
	bin := filepath.Join(dir, "bin")
	if err := errors.Join(os.Mkdir(bin, 0o700), os.Symlink(touch, filepath.Join(bin, "touch"))); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), bash, "-c", command)
	cmd.Dir, cmd.Env = dir, []string{"PATH=" + bin}
	_ = cmd.Run() // the commands are not found
}

// hostileFindings returns the findings on a host where everything has this name.
func hostileFindings(t *testing.T, name string) []Finding {
	t.Helper()
	h, o := healthy(t)
	o.Account = Account{Name: name, UID: 999}
	o.MissingAccount = name
	o.Config.State.Dir, o.Config.ClientsDir, o.Config.Audit.File = "/"+name+"/state", "/"+name+"/clients", "/"+name+"/audit"
	o.Config.Control.Socket = "/" + name + "/sock"
	o.Config.TUN.Name = name
	o.Config.Services[0].Upstream.Host = name
	h.Resolve = func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("none") }
	h.Running = func(context.Context) (int, error) { return 0, fmt.Errorf("no answer") }
	h.File = func(string) (File, error) { return File{Mode: 0o700, UID: 1}, nil }
	h.Links = func() ([]Link, error) {
		return []Link{
			{Name: name, MTU: 9000, Up: true, Addrs: []netip.Prefix{netip.MustParsePrefix("10.77.0.9/16"), netip.MustParsePrefix("fd77::9/64")}},
			{Name: name + "2", MTU: 9000, Up: true, Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8"), netip.MustParsePrefix("fd77::1/48")}},
		}, nil
	}
	h.Setting = func(setting string) (string, error) {
		if strings.HasSuffix(setting, "rp_filter") || strings.HasSuffix(setting, "accept_ra") {
			return "1", nil
		}
		return "0", nil
	}
	h.Firewall = func() (*Firewall, error) {
		return &Firewall{Legacy: []string{name}, Chains: []Chain{
			{Family: "ip", Table: name, Name: "forward", Hook: "forward", Drops: true},
			{Family: "ip", Table: "filter", Name: "FORWARD" + name, Hook: "forward", Drops: true},
		}}, nil
	}
	h.Bypass = func(bool) ([]bypass.Problem, error) { return nil, nil }
	all := Examine(t.Context(), h, o)
	o.Existing, o.MissingAccount = true, ""
	for _, p := range []TUNInterface{{}, {TUN: true}, {TUN: true, Owner: 999}} {
		h.Interface = func(string) (TUNInterface, error) { return p, nil }
		all = append(all, Examine(t.Context(), h, o)...)
	}
	h.Interface = func(string) (TUNInterface, error) { return TUNInterface{}, fs.ErrNotExist }
	return append(all, Examine(t.Context(), h, o)...)
}

// A missing clients_dir is not a failure: check and run warn, too.
func TestFilesCheckWarnsOfMissingClientsDir(t *testing.T) {
	t.Parallel()
	h, o := healthy(t)
	o.Config.ClientsDir = "/etc/knockgw/clients.d"
	h.File = func(path string) (File, error) {
		if path == o.Config.ClientsDir {
			return File{}, fs.ErrNotExist
		}
		return File{Mode: fs.ModeDir | 0o755}, nil
	}
	all := Examine(t.Context(), h, o)
	if Failed(all) {
		t.Errorf("%+v", all)
	}
	for _, f := range all {
		if f.Check == "clients_dir" && f.Level == Warn && strings.Contains(f.Fix, "client add") {
			return
		}
	}
	t.Errorf("%+v", all)
}

func TestBypassCheckFailsOnOpenPath(t *testing.T) {
	t.Parallel()
	h, o := healthy(t)
	h.Bypass = func(running bool) ([]bypass.Problem, error) {
		if running {
			t.Error("no gateway runs")
		}
		return []bypass.Problem{{Subject: "10.77.0.0/24", Severity: bypass.Open, Message: "goes elsewhere", Remedy: "ip rule del"}}, nil
	}
	all := Examine(t.Context(), h, o)
	if !Failed(all) {
		t.Errorf("%+v", all)
	}
	h.Bypass = func(bool) ([]bypass.Problem, error) { return nil, errors.New("no answer") }
	for _, f := range Examine(t.Context(), h, o) {
		if f.Check == "bypass" && (f.Level != Warn || !strings.Contains(f.Message, "not checked")) {
			t.Errorf("%+v", f)
		}
	}
}
