//go:build linux

package packages

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/knockgw/knockgw/internal/testtool"
)

// steps are those that every life of a package has. The scripts run as root of
// a copy of this machine, in namespaces of its own, with the package's file as
// $1.
const steps = `
set -eux
package=$1
mount -t proc proc /proc
mount -t tmpfs run /run
ip link set lo up

# What the example's first lines tell to do.
begin() {
	id knockgw
	test "$(stat -c %U:%a /var/lib/knockgw)" = knockgw:700
	test "$(stat -c %U:%a /etc/knockgw)" = knockgw:750
	cp "$1" /etc/knockgw/knockgw.yaml
	(cd /etc/knockgw && knockgw keygen --out alice.key && chown knockgw: knockgw.yaml alice.key && chmod 600 knockgw.yaml)
	knockgw check | grep ssh
}
up() { knockgw status >/dev/null 2>&1 && grep -q msg=ready /tmp/knockgw.log; }
start() {
	knockgw run 2>/tmp/knockgw.log &
	gateway=$!
	for try in $(seq 100); do up && break; kill -0 $gateway; sleep 0.1; done
	up || { cat /tmp/knockgw.log; exit 1; }
}
stop() {
	kill $gateway
	wait $gateway
	ip route show proto 107 | grep blackhole # silence stays
	knockgw hold --save | grep silent # as the service does
	test "$(stat -c %U:%a /var/lib/knockgw-hold/state.json)" = root:600
	ip route flush proto 107
	knockgw hold # as at boot
	ip route show proto 107 | grep blackhole
}
removed() {
	test ! -e /var/lib/knockgw-hold
	test -z "$(ip route show proto 107)"
	test ! -e "$1"
	test -e /etc/knockgw/alice.key
}
`

const lifeOfADeb = steps + `
dpkg --force-depends -i "$package"
knockgw version | grep -F 1.2.3
test -s /usr/share/man/man1/knockgw-run.1.gz
test -s /usr/share/man/man5/knockgw.yaml.5.gz
test -s /usr/share/bash-completion/completions/knockgw
test -s /usr/share/doc/knockgw/copyright
test -s /usr/lib/systemd/system/sysinit.target.wants/knockgw-hold.service
test -s /usr/lib/systemd/networkd.conf.d/50-knockgw.conf
test -s /usr/share/doc/knockgw/examples/prometheus/knockgw.rules.yaml
test -s /usr/share/doc/knockgw/examples/grafana/knockgw.json

begin /usr/share/doc/knockgw/examples/knockgw.yaml
start
test "$(stat -c %U /proc/$gateway/environ)" = root # only root may read it
grep -w Uid: /proc/$gateway/status | grep -w "$(id -u knockgw)"
grep -w Seccomp: /proc/$gateway/status | grep -w 2
knockgw reload

# The same again is an upgrade: what runs goes on.
dpkg --force-depends -i "$package"
kill -0 $gateway
knockgw status

stop
dpkg -r knockgw
removed /usr/bin/knockgw
dpkg -P knockgw
test ! -e /var/lib/knockgw
test -e /etc/knockgw/alice.key
`

const lifeOfAnRPM = steps + `
# This machine's packages are of another kind, maybe; its database is left alone.
with() { rpm --root / --dbpath /tmp/rpmdb "$@"; }
with -i --nodeps "$package"
with -V --nodeps knockgw
test "$(with -q --queryformat '[%{FILEUSERNAME}:%{FILEGROUPNAME}\n]' knockgw | sort -u)" = root:root
begin /usr/share/doc/knockgw/examples/knockgw.yaml
start
with -U --nodeps --force "$package"
kill -0 $gateway
stop
with -e --nodeps knockgw
removed /usr/bin/knockgw
test -e /var/lib/knockgw/replay.lock
`

const lifeOfATarball = steps + `
cd /tmp
tar -xzf "$package"
cd knockgw-1.2.3-linux-amd64
./install.sh
knockgw version | grep -F 1.2.3
grep -F ExecStart=/usr/local/bin/knockgw /etc/systemd/system/knockgw.service
grep -Fx 'ExecStart=/usr/local/bin/knockgw hold' /etc/systemd/system/sysinit.target.wants/knockgw-hold.service
test -s /usr/local/share/man/man1/knockgw-run.1.gz
test -s /usr/local/share/man/man5/knockgw.yaml.5.gz
test -s /usr/local/share/doc/knockgw/examples/prometheus/knockgw.rules.yaml
begin /usr/local/share/doc/knockgw/examples/knockgw.yaml
start
./install.sh
kill -0 $gateway
stop
./install.sh remove
removed /usr/local/bin/knockgw
test ! -e /etc/systemd/system/knockgw.service
test ! -e /etc/systemd/system/knockgw-hold.service
test -e /var/lib/knockgw/replay.lock
`

// elsewhere makes a copy of this machine, whose changes are in memory, and runs
// the script in it.
const elsewhere = `
set -eu
work=$1 package=$2
mount --make-rprivate / # nothing of this is mounted outside
mount -t tmpfs work "$work"
mkdir "$work/upper" "$work/work" "$work/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" "$work/root" || exit 86
mount --rbind /dev "$work/root/dev"
cp "$package" "$work/root/tmp/package"
exec chroot "$work/root" /bin/sh -c "$SCRIPT" sh /tmp/package
`

// exitNoOverlay is the code of elsewhere where this machine cannot be copied.
const exitNoOverlay = 86

func TestPackageLifecycle(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("installing a package, even into a copy of this machine, takes root")
	}
	if runtime.GOARCH != "amd64" {
		t.Skip("the packages under test are for amd64")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skip("this machine has no TUN devices")
	}
	for _, c := range []struct{ name, pattern, script, tool string }{
		{"deb", "*.deb", lifeOfADeb, "dpkg"},
		{"rpm", "*.rpm", lifeOfAnRPM, "rpm"},
		{"tarball", "*.tar.gz", lifeOfATarball, "tar"},
	} {
		t.Run(c.name, func(t *testing.T) {
			testtool.Require(t, c.tool, "ip", "chroot", "mount")
			live(t, c.script, one(t, packages.get(t), c.pattern))
		})
	}
}

// live runs a script with a package in a copy of this machine.
func live(t *testing.T, script, file string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", elsewhere, "sh", t.TempDir(), file)
	cmd.Env = append(os.Environ(), "SCRIPT="+script, "LC_ALL=C", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		// What the gateway and its routes touch is this test's own; so are
		// processes, which end with the first.
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
