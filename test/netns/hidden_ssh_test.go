//go:build linux

package netns_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/knockgw/knockgw/protocol"
	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	sshdPath = "/usr/sbin/sshd" // it wants to be started by its whole path
	sshPort  = 22
	// copied is how much is copied each way, in bytes: 200 MB, many times what
	// is buffered anywhere.
	copied = 200_000_000
	// copyTime bounds a copy; on an idle machine it takes some seconds.
	copyTime = 3 * time.Minute
)

// An sshServer is OpenSSH's, on the upstream, and what its users, root and
// alice, need to be admitted.
type sshServer struct {
	*lab.Process

	dir string
}

// serveSSH starts a real sshd on a host. Keys, and what it wants to find in
// /run and /etc, are the test's own.
func serveSSH(t *testing.T, h *lab.Host, at netip.AddrPort) *sshServer {
	t.Helper()
	lab.RequireTools(t, sshdPath, "ssh", "scp", "ssh-keygen")
	s := &sshServer{dir: t.TempDir()}
	for _, key := range []string{"host", "user"} {
		h.MustRun("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", key, "-f", filepath.Join(s.dir, key))
	}
	public := func(key string) string {
		b, err := os.ReadFile(filepath.Join(s.dir, key+".pub"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	authorized := write(t, s.dir, "authorized_keys", "%s", public("user"))
	write(t, s.dir, "known_hosts", "ssh,10.77.0.1 %s", public("host"))
	// Alice is a user here, and no account is locked, whatever the machine's
	// own files say.
	shadow := write(t, s.dir, "shadow", "root:*:20000:0:99999:7:::\nalice:*:20000:0:99999:7:::\n")
	users, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	passwd := write(t, s.dir, "passwd", "%s", append(users, "alice:x:0:0:Alice:/:/bin/sh\n"...))
	if err := os.Chmod(passwd, 0o644); err != nil { // sshd's unprivileged part reads it
		t.Fatal(err)
	}
	config := write(t, s.dir, "sshd_config", `ListenAddress %s
HostKey %s
AuthorizedKeysFile %s
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
PrintMotd no
Subsystem sftp internal-sftp
`, at, filepath.Join(s.dir, "host"), authorized)
	script := `mount -t tmpfs none /run && mkdir -m 755 /run/sshd && mount --bind "$1" /etc/shadow &&
		mount --bind "$2" /etc/passwd && exec "$0" -D -e -f "$3"`
	cmd := h.Command(t.Context(), "sh", "-c", script, sshdPath, shadow, passwd, config)
	cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	s.Process = h.StartCommand(t, cmd)
	waitLog(t, s.Process, serverTime, "listening on")
	return s
}

// options are those of ssh and scp: the user's key, the server's, and nothing
// of the machine's own.
func (s *sshServer) options(proxy string) []string {
	return []string{
		"-F", "none", "-o", "ProxyCommand=" + proxy, "-i", filepath.Join(s.dir, "user"), "-o", "IdentitiesOnly=yes",
		"-o", "UserKnownHostsFile=" + filepath.Join(s.dir, "known_hosts"), "-o", "GlobalKnownHostsFile=none",
		"-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes",
	}
}

func TestHiddenSSHServesClients(t *testing.T) {
	t.Parallel()
	lab.RequireTools(t, "nmap")
	l := lab.New(t)
	server := serveSSH(t, l.Upstream, netip.AddrPortFrom(l.Upstream.Addr4, sshPort))
	d := endpoint{name: "ssh", listen: netip.MustParseAddrPort("10.77.0.1:22"),
		upstream: netip.AddrPortFrom(l.Upstream.Addr4, sshPort).String()}
	h := hide(t, l, protocol.MethodUDP, d)
	h.filtered(t, d)
	options := server.options("knockgw connect ssh")
	ssh := func(more ...string) []string { return append(append([]string{}, options...), more...) }

	h.unseen(t, d, func() {
		t.Run("a command runs and its exit code comes through", func(t *testing.T) {
			out, err := h.Client.RunCommand(h.command(withTimeout(t, copyTime), "ssh",
				ssh("root@ssh", "echo from $SSH_CONNECTION; exit 7")...))
			if code := lab.ExitCode(err); code != 7 || !strings.Contains(out, "from 10.1.3.1 ") {
				t.Errorf("ssh ended with %d, want 7: %v\n%s", code, err, out)
			}
		})
		t.Run("by the address too", func(t *testing.T) {
			args := append(server.options("knockgw connect %h:%p"), "root@10.77.0.1", "echo here I am")
			if out := h.run(t, "ssh", args...); !strings.Contains(out, "here I am") {
				t.Errorf("ssh printed %q", out)
			}
		})
		t.Run("a person types", func(t *testing.T) { interactive(t, h, ssh("-tt", "root@ssh")) })
		t.Run("200 MB go up and down", func(t *testing.T) { copies(t, h, options) })
		t.Run("ten at once", func(t *testing.T) {
			var all []*lab.Process
			for i := range 10 {
				cmd := h.command(t.Context(), "ssh", ssh("root@ssh", fmt.Sprintf("echo number $((%d*11))", i))...)
				all = append(all, h.Client.StartCommand(t, cmd))
			}
			for i, p := range all {
				want := fmt.Sprintf("number %d", i*11)
				if code, err := p.Wait(withTimeout(t, copyTime)); err != nil || code != 0 || !strings.Contains(p.Log(), want) {
					t.Errorf("ssh number %d ended with %d, %v:\n%s", i, code, err, p.Log())
				}
			}
		})
	})
	h.filtered(t, d)
}

// interactive is a session on a terminal: lines are written and answered, one
// by one.
func interactive(t *testing.T, h *hiddenService, args []string) {
	t.Helper()
	cmd := h.command(t.Context(), "ssh", args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := h.Client.StartCommand(t, cmd)
	for _, line := range [][2]string{
		{"echo six by seven is $((6*7))", "six by seven is 42"},
		{"echo on $(tty)", "on /dev/pts/"},
	} {
		if _, err := fmt.Fprintln(in, line[0]); err != nil {
			t.Fatal(err)
		}
		waitLog(t, p, answerTime, line[1])
	}
	if _, err := fmt.Fprintln(in, "exit 9"); err != nil {
		t.Fatal(err)
	}
	if code, err := p.Wait(withTimeout(t, answerTime)); err != nil || code != 9 {
		t.Errorf("the session ended with %d, %v, want 9:\n%s", code, err, p.Log())
	}
}

// copies copies a file there and back again.
func copies(t *testing.T, h *hiddenService, options []string) {
	t.Helper()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	want := random(t, path("original"), copied)
	for _, way := range []struct{ from, to, result string }{
		{path("original"), "root@ssh:" + path("up"), "up"},
		{"root@ssh:" + path("up"), path("down"), "down"},
	} {
		began := time.Now()
		args := append(append([]string{"-q"}, options...), way.from, way.to)
		if out, err := h.Client.RunCommand(h.command(withTimeout(t, copyTime), "scp", args...)); err != nil {
			t.Fatalf("scp %s: %v\n%s", way.result, err, out)
		}
		t.Logf("%s: %d MB in %v", way.result, copied/1_000_000, time.Since(began).Round(time.Millisecond))
		f, err := os.Open(path(way.result))
		if err != nil {
			t.Fatal(err)
		}
		got := sha256.New()
		n, err := io.Copy(got, f)
		_ = f.Close()
		if err != nil || n != copied || [sha256.Size]byte(got.Sum(nil)) != want {
			t.Errorf("%s: %d bytes arrived, %v; or they are others", way.result, n, err)
		}
	}
}

// digest is that of a file.
func digest(t *testing.T, path string) [sha256.Size]byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(b)
}

// random writes a file of bytes that nothing compresses and returns their
// digest.
func random(t *testing.T, path string, size int64) [sha256.Size]byte {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.New()
	bytes := io.LimitReader(rand.NewChaCha8([32]byte{}), size)
	_, err = io.Copy(io.MultiWriter(f, digest), bytes)
	if closed := f.Close(); err != nil || closed != nil {
		t.Fatal(err, closed)
	}
	return [sha256.Size]byte(digest.Sum(nil))
}
