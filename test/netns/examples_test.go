//go:build linux

package netns_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/testtool"
	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	repository = "../.."
	// buildTime is for the examples, whose dependencies may not have been built
	// before.
	buildTime = 5 * time.Minute
	// heldExamples is how many of the examples' clients can be run in the lab
	// that stays, without other software.
	heldExamples = 4
)

// A heldLab is "knockgw demo --hold", and what it has printed.
type heldLab struct {
	*lab.Process

	host      *lab.Host
	variables []string // assignments, for a shell
	commands  []string // that are to be typed, in their order
}

// hold starts the demonstration that stays. It makes its own network
// namespaces, wherever it is started itself.
func hold(t *testing.T, h *lab.Host) *heldLab {
	t.Helper()
	d := &heldLab{host: h, Process: h.StartCommand(t, h.Command(t.Context(), program.get(t).Path, "demo", "--hold"))}
	waitLog(t, d.Process, demoTime, "Ctrl-C")
	for line := range strings.Lines(d.Log()) {
		indented := strings.HasPrefix(line, "  ")
		line = strings.TrimSpace(line)
		name, _, _ := strings.Cut(line, " ")
		switch {
		case !indented:
		case name == "export" || strings.Contains(name, "="):
			d.variables = append(d.variables, line)
		case strings.HasPrefix(name, "$") || name == "go":
			d.commands = append(d.commands, line)
		}
	}
	return d
}

// script returns a command as typed with the variables set.
func (d *heldLab) script(command string) string {
	return strings.Join(append(d.variables, "exec "+command), "\n")
}

// run runs a command in the directory that the demonstration says it is for.
func (d *heldLab) run(ctx context.Context, t *testing.T, command string) string {
	t.Helper()
	cmd := d.host.Command(ctx, "sh", "-c", d.script(command))
	cmd.Dir = repository
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(program.get(t).Path)+":"+os.Getenv("PATH"))
	out, err := d.host.RunCommand(cmd)
	if err != nil {
		t.Errorf("%s: %v\n%s", command, err, out)
	}
	return out
}

// value is the value of a variable.
func (d *heldLab) value(name string) string {
	for _, v := range d.variables {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

func TestDemoHoldCommandsWork(t *testing.T) {
	testtool.RequireLong(t, "builds the examples")
	lab.RequireTools(t, "nmap", "nsenter", "go")
	l := lab.New(t)
	before := host(l)
	d := hold(t, l.Gateway)
	examples := 0
	for _, command := range d.commands {
		background, isBackground := strings.CutSuffix(command, " &")
		switch {
		case isBackground:
			p := d.host.StartCommand(t, d.host.Command(t.Context(), "sh", "-c", d.script(background)))
			waitLog(t, p, serverTime, "listening on")
		case strings.HasPrefix(command, "go "):
			d.run(withTimeout(t, buildTime), t, command)
		case strings.HasPrefix(command, "$ATTACKER nmap"):
			if out := d.run(t.Context(), t, command); strings.Contains(out, "open") || !strings.Contains(out, "filtered") {
				t.Errorf("%s:\n%s", command, out)
			}
		case strings.Contains(command, "/postgres "): // which is not here; see TestHiddenPostgreSQLServesClients
		case strings.HasPrefix(command, "$CLIENT $D/"):
			examples++
			var want string
			switch {
			case strings.Contains(command, "-service web"):
				want = "hello from behind the gateway: GET /\n"
			case strings.Contains(command, "-service site"):
				want = "hello laptop: GET /\n"
			case strings.Contains(command, "-service grpc"):
				want = "the server behind the gateway is SERVING\n"
			case strings.Contains(command, "-service ssh"):
				want = "behind the gateway received: uptime\n"
			}
			if out := d.run(withTimeout(t, serverTime), t, command); out != want {
				t.Errorf("%s: it printed %q, want %q", command, out, want)
			}
		default:
			d.run(withTimeout(t, serverTime), t, command)
		}
	}
	if examples != heldExamples {
		t.Errorf("%d examples were run, want %d:\n%s", examples, heldExamples, d.Log())
	}
	d.Signal(syscall.SIGINT)
	if code, err := d.Wait(withTimeout(t, demoTime)); err != nil || code != 0 {
		t.Errorf("the demonstration ended with %d, %v", code, err)
	}
	if _, err := os.Stat(d.value("D")); !os.IsNotExist(err) {
		t.Errorf("the demonstration has left %s behind: %v", d.value("D"), err)
	}
	assertUnchanged(t, l, before)
}

// buildExamples builds the programs of examples/ and returns the directory in
// which they are.
func buildExamples(t *testing.T, h *lab.Host) string {
	t.Helper()
	lab.RequireTools(t, "go")
	dir := t.TempDir()
	cmd := h.Command(withTimeout(t, buildTime), "go", "build", "-C", "examples", "-o", dir+"/", "./...")
	cmd.Dir = repository
	if out, err := h.RunCommand(cmd); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}
