//go:build linux

package netns_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	quickstart = "../../docs/quickstart.md"
	// quickUpstream is the server of the document.
	quickUpstream = "10.0.2.2"
)

// A step is a block of the document that says in its first line whose it is:
// the text of a file, or commands.
//
//	```yaml gateway PATH    a file of the gateway
//	```sh gateway           commands on the gateway; or client
//	```sh gateway stays     a command that goes on
//	```sh client shell      a command that ends up in a shell of the server
type step struct {
	line     int
	language string
	host     string
	rest     string
	text     string
}

func (s step) String() string { return fmt.Sprintf("%s, line %d", filepath.Base(quickstart), s.line) }

// steps reads the document. A block that says nothing of a host is for the
// reader only.
func steps(t *testing.T) []step {
	t.Helper()
	b, err := os.ReadFile(quickstart)
	if err != nil {
		t.Fatal(err)
	}
	var all []step
	var open *step
	for i, line := range strings.Split(string(b), "\n") {
		info, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && open == nil:
			words := append(strings.Fields(info), "", "", "")
			open = &step{line: i + 1, language: words[0], host: words[1], rest: words[2]}
		case fence:
			if open.host != "" {
				all = append(all, *open)
			}
			open = nil
		case open != nil:
			open.text += line + "\n"
		}
	}
	if open != nil {
		t.Fatalf("%v: the block does not end", open)
	}
	return all
}

// A machine is a host of the lab as the document finds it: empty. It has a file
// system of its own in the places that the document's commands use.
type machine struct {
	host   *lab.Host
	bin    string
	home   string // what is in root's home
	root   string // the path of that home
	dir    string // the working directory
	holder *lab.Process
}

// newMachine makes a machine. The binds are directories of the test by the
// places where the machine has them.
func newMachine(t *testing.T, h *lab.Host, bin string, binds map[string]string) *machine {
	t.Helper()
	root, err := user.LookupId("0")
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{host: h, bin: bin, home: t.TempDir(), root: root.HomeDir, dir: t.TempDir()}
	script := fmt.Sprintf("mount -t tmpfs none /run\nmount --bind %q %q\n", m.home, m.root)
	for place, dir := range binds {
		script += fmt.Sprintf("mount --bind %q %q\n", dir, place)
	}
	// The mounts last as long as a process is there.
	cmd := h.Command(context.Background(), "sh", "-e", "-c", script+"echo mounted; exec sleep 1000000")
	cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	m.holder = h.StartCommand(t, cmd)
	waitLog(t, m.holder, serverTime, "mounted")
	return m
}

// command prepares a step's commands, word for word, to be typed on the machine.
func (m *machine) command(ctx context.Context, text string) *exec.Cmd {
	cmd := m.host.Command(ctx, "nsenter", "--mount", "--target", strconv.Itoa(m.holder.PID()), "--wd="+m.dir, "sh", "-e", "-c", text)
	cmd.Env = []string{"PATH=" + m.bin + ":" + os.Getenv("PATH"), "HOME=" + m.root, "TERM=dumb"}
	return cmd
}

// run types a step's commands, with something for their input, and returns what
// they say and how they end.
func (m *machine) run(ctx context.Context, t *testing.T, s step, input string) (string, int) {
	t.Helper()
	cmd := m.command(ctx, s.text)
	cmd.Stdin = strings.NewReader(input)
	out, err := m.host.RunCommand(cmd)
	t.Logf("%v: %s%s", s, s.text, out)
	return out, lab.ExitCode(err)
}

// etc is a directory like a small system's /etc.
func etc(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"passwd", "group", "nsswitch.conf", "ld.so.cache"} {
		b, err := os.ReadFile(filepath.Join("/etc", name))
		if err != nil {
			continue // not every system has them all
		}
		write(t, dir, name, "%s", b)
	}
	return dir
}

// quickNetwork gives the lab the server of the document, where sshd knows
// alice, and what the steps are typed on.
func quickNetwork(t *testing.T) (l *lab.Lab, gateway, client *machine) {
	t.Helper()
	l = lab.New(t)
	l.Upstream.MustRun("ip", "addr", "add", quickUpstream+"/32", "dev", "lo")
	l.Gateway.MustRun("ip", "route", "add", quickUpstream, "via", l.Upstream.Addr4.String())
	server := serveSSH(t, l.Upstream, netip.MustParseAddrPort(quickUpstream+":22"))
	bin := t.TempDir()
	if err := os.Symlink(program.get(t).Path, filepath.Join(bin, "knockgw")); err != nil {
		t.Fatal(err)
	}
	gateway = newMachine(t, l.Gateway, bin, map[string]string{"/etc": etc(t), "/var/lib": t.TempDir()})
	client = newMachine(t, l.Client, bin, nil)
	// Alice's key was made long ago, and the server's is known.
	ssh := filepath.Join(client.home, ".ssh")
	if err := os.Mkdir(ssh, 0o700); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"user": "id_ed25519", "known_hosts": "known_hosts"} {
		b, err := os.ReadFile(filepath.Join(server.dir, from))
		if err != nil {
			t.Fatal(err)
		}
		write(t, ssh, to, "%s", b)
	}
	return l, gateway, client
}

func TestQuickStartLeadsToShell(t *testing.T) {
	t.Parallel()
	l, gateway, client := quickNetwork(t)
	shells := 0
	var stays *lab.Process
	for _, s := range steps(t) {
		m := map[string]*machine{"gateway": gateway, "client": client}[s.host]
		switch {
		case m == nil:
			t.Fatalf("%v: there is no host %q", s, s.host)
		case s.language == "yaml":
			cmd := m.command(withTimeout(t, serverTime), fmt.Sprintf("mkdir -p %q && umask 077 && cat >%q", filepath.Dir(s.rest), s.rest))
			cmd.Stdin = strings.NewReader(s.text)
			if out, err := m.host.RunCommand(cmd); err != nil {
				t.Fatalf("%v: %v\n%s", s, err, out)
			}
		case s.rest == "stays":
			stays = m.host.StartCommand(t, m.command(context.Background(), "exec "+s.text))
			waitLog(t, stays, serverTime, "msg=ready")
		case s.rest == "shell":
			shells++
			out, code := m.run(withTimeout(t, serverTime), t, s, "echo in the shell of $USER, from $SSH_CONNECTION\nexit 42\n")
			if want := "in the shell of alice, from 10.1.3.1 "; code != 42 || !strings.Contains(out, want) {
				t.Fatalf("%v: it ended with %d, want 42 and %q", s, code, want)
			}
		default:
			if _, code := m.run(withTimeout(t, serverTime), t, s, ""); code != 0 {
				t.Fatalf("%v: it ended with %d", s, code)
			}
			carry(t, gateway, client)
		}
	}
	if shells != 1 || stays == nil {
		t.Errorf("the document leads to %d shells, want 1, on a gateway that runs", shells)
	}
	scan{flags: []string{"-sS"}}.assertBlind(t, l.Attacker, netip.MustParseAddr("10.77.0.1"))
}

// carry brings what is new in the gateway's working directory to the client's,
// and deletes it there, as the document asks for.
func carry(t *testing.T, from, to *machine) {
	t.Helper()
	files, err := os.ReadDir(from.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		path := filepath.Join(from.dir, f.Name())
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has a secret in it, and mode %v", f.Name(), info.Mode())
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		write(t, to.dir, f.Name(), "%s", b)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}
