//go:build linux

package packages

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// inAContainer runs the recipe's command in a root directory with the program
// and nothing else, with the rights that docs/install.md names, and no program
// that makes containers.
const inAContainer = `
set -eu
root=$1 tarball=$2 example=$3 rights=$4 device=$5
shift 5
mount --make-rprivate / # nothing of this is mounted outside
mount -t tmpfs root "$root"
cd "$root"
mkdir -p proc dev/net etc/knockgw var/lib/knockgw
tar -xzf "$tarball" --strip-components=1 --wildcards '*/knockgw'
mount -t proc proc proc
test "$device" = without || mknod -m 600 dev/net/tun c 10 200
mknod -m 666 dev/null c 1 3
sed 's/^control:.*//' "$example" >etc/knockgw/knockgw.yaml
./knockgw keygen --out etc/knockgw/alice.key
chown -R 65532:65532 etc/knockgw var/lib/knockgw
ip link set lo up
# sys_chroot is for the chroot.
setpriv --bounding-set="-all,$rights,+sys_chroot" --no-new-privs chroot . "$@" 2>log &
gateway=$!
for try in $(seq 100); do
	grep -q msg=ready log && break
	kill -0 $gateway || { cat log; exit 1; }
	sleep 0.1
done
cat log proc/$gateway/status
kill $gateway
wait $gateway
`

// all are the rights that docs/install.md names.
const all = "+net_admin,+bpf,+setuid,+setgid"

func TestContainerNeedsItsCapabilities(t *testing.T) {
	if os.Getuid() != 0 || runtime.GOARCH != "amd64" {
		t.Skip("needs root, and amd64, for which the package under test is")
	}
	if _, err := exec.LookPath("setpriv"); err != nil {
		t.Skip("this machine has no setpriv")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skip("this machine has no TUN devices")
	}
	recipe, err := os.ReadFile(filepath.Join(root, "deploy/container/Containerfile"))
	if err != nil {
		t.Fatal(err)
	}
	words := func(instruction string) (w []string) {
		line := regexp.MustCompile(`(?m)^` + instruction + ` \[(.*)\]$`).FindSubmatch(recipe)
		if line == nil {
			t.Fatalf("the recipe has no %s", instruction)
		}
		for word := range strings.SplitSeq(string(line[1]), ", ") {
			w = append(w, strings.Trim(word, `"`))
		}
		return w
	}
	example, err := filepath.Abs(filepath.Join(root, "deploy/examples/knockgw.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	command := append(words("ENTRYPOINT"), words("CMD")...)
	for _, c := range []struct {
		name, rights, device string
		ends                 bool // before it is ready
		want                 []string
	}{
		{"all", all, "with", false, []string{
			"Uid:\t65532\t65532\t65532\t65532", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2",
		}},
		{"no BPF", "+net_admin,+setuid,+setgid", "with", false, []string{"packets are dropped in user space", "it needs CAP_BPF", "Seccomp:\t2"}},
		{"no NET_ADMIN", "+bpf,+setuid,+setgid", "with", true, []string{"with CAP_NET_ADMIN"}},
		{"no SETUID", "+net_admin,+bpf,+setgid", "with", true, []string{"65532", "operation not permitted"}},
		{"no SETGID", "+net_admin,+bpf,+setuid", "with", true, []string{"65532", "operation not permitted"}},
		{"no device", all, "without", true, []string{"/dev/net/tun is missing", "pass the device into the container"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := []string{"-c", inAContainer, "sh", t.TempDir(), one(t, packages.get(t), "*.tar.gz"), example, c.rights, c.device}
			cmd := exec.CommandContext(t.Context(), "/bin/sh", append(args, command...)...)
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID,
				Pdeathsig:  syscall.SIGKILL,
			}
			out, err := cmd.CombinedOutput()
			if (err != nil) != c.ends {
				t.Errorf("it ended with %v", err)
			}
			for _, want := range c.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("there is no %q", want)
				}
			}
			if t.Failed() {
				t.Logf("%s", out)
			}
		})
	}
}
