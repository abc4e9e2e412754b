//go:build linux

package packages

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestTheSameCommitMakesTheSamePackages(t *testing.T) {
	first := packages.get(t)
	second := t.TempDir()
	if err := build(t, second); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(first)
	if err != nil || len(files) != 3 {
		t.Fatalf("there are %v, %v; want a deb, an rpm and a tarball", files, err)
	}
	for _, f := range files {
		a, err := os.ReadFile(filepath.Join(first, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(second, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("%s is another the second time", f.Name())
		}
	}
}

// lifeOfAPackage runs as root of a copy of this machine, in namespaces of its own.
const lifeOfAPackage = `
set -eux
deb=$1
mount -t proc proc /proc
mount -t tmpfs run /run
ip link set lo up

dpkg --force-depends -i "$deb"
knockgw version | grep -F 1.2.3
id knockgw
test "$(stat -c %U:%a /var/lib/knockgw)" = knockgw:700
test -s /usr/share/man/man1/knockgw-run.1.gz
test -s /usr/share/bash-completion/completions/knockgw
test -s /usr/share/doc/knockgw/copyright

# What the example's first lines tell to do.
cp /usr/share/doc/knockgw/examples/knockgw.yaml /etc/knockgw/knockgw.yaml
(cd /etc/knockgw && knockgw keygen --out alice.key && chown knockgw: knockgw.yaml alice.key && chmod 600 knockgw.yaml)
knockgw check | grep ssh

knockgw run 2>/tmp/knockgw.log &
gateway=$!
up() { knockgw status >/dev/null 2>&1 && grep -q msg=ready /tmp/knockgw.log; }
for try in $(seq 100); do up && break; kill -0 $gateway; sleep 0.1; done
up || { cat /tmp/knockgw.log; exit 1; }
test "$(stat -c %U /proc/$gateway/environ)" = root # nobody but root looks into it
grep -w Uid: /proc/$gateway/status | grep -w "$(id -u knockgw)"
grep -w Seccomp: /proc/$gateway/status | grep -w 2
knockgw reload

# The same again is an upgrade: what runs goes on.
dpkg --force-depends -i "$deb"
kill -0 $gateway
knockgw status

kill $gateway
wait $gateway
ip route show proto 107 | grep blackhole # silence stays
dpkg -r knockgw
test -z "$(ip route show proto 107)"
test ! -e /usr/bin/knockgw
test -e /etc/knockgw/alice.key
dpkg -P knockgw
test ! -e /var/lib/knockgw
test -e /etc/knockgw/alice.key
`

// elsewhere makes a copy of this machine, whose changes are in memory, and runs the script in it.
const elsewhere = `
set -eu
work=$1 deb=$2
mount -t tmpfs work "$work"
mkdir "$work/upper" "$work/work" "$work/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" "$work/root" || exit 86
mount --rbind /dev "$work/root/dev"
cp "$deb" "$work/root/tmp/knockgw.deb"
exec chroot "$work/root" /bin/sh -c "$SCRIPT" sh /tmp/knockgw.deb
`

// exitNoOverlay is the code of elsewhere where this machine cannot be copied.
const exitNoOverlay = 86

func TestTheDebIsInstalledUsedUpgradedAndRemoved(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("installing a package, even into a copy of this machine, takes root")
	}
	if runtime.GOARCH != "amd64" {
		t.Skip("the package under test is for amd64")
	}
	for _, tool := range []string{"dpkg", "ip", "chroot", "mount"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("this machine has no %s", tool)
		}
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skip("this machine has no TUN devices")
	}
	deb := one(t, packages.get(t), "*.deb")
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", elsewhere, "sh", t.TempDir(), deb)
	cmd.Env = append(os.Environ(), "SCRIPT="+lifeOfAPackage, "LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		// What the gateway and its routes touch is this test's own; so are processes, which end with the first.
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL,
	}
	out, err := cmd.CombinedOutput()
	switch {
	case cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == exitNoOverlay:
		t.Skipf("this machine cannot be copied with an overlay:\n%s", out)
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	}
}

func TestTheUnitIsOneThatSystemdTakes(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("this machine has no systemd-analyze")
	}
	unit := filepath.Join(root, "deploy/systemd/knockgw.service")
	out, _ := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", "--recursive-errors=no", unit).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		// systemd before 253 takes the line before it; the program is not installed here.
		if strings.Contains(line, "knockgw.service") && !strings.Contains(line, "notify-reload") && !strings.Contains(line, "is not executable") {
			t.Errorf("systemd says: %s", line)
		}
	}

	const mostExposed = 2.0 // of 10; what is left is what the gateway is for: the network, TUN, the filter
	out, err = exec.CommandContext(t.Context(), analyze, "security", "--offline=yes", unit).CombinedOutput()
	found := regexp.MustCompile(`exposure level for \S+ ([0-9.]+)`).FindSubmatch(out)
	if found == nil {
		t.Skipf("this systemd-analyze does not judge files: %v\n%s", err, out)
	}
	if level, err := strconv.ParseFloat(string(found[1]), 64); err != nil || level > mostExposed {
		t.Errorf("the unit is more exposed than %v:\n%s", mostExposed, out)
	}
}
