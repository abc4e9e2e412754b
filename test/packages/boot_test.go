//go:build linux

package packages

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// bootVariable names the Debian releases that are booted, with spaces between
// them.
const bootVariable = "KNOCKGW_BOOT"

// bootTime is how long a release may take to be fetched, booted and gone
// through.
const bootTime = 8 * time.Minute

// lifeUnit runs testdata/life.sh when the system is up, and ends the system.
const lifeUnit = `[Unit]
After=multi-user.target
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
ExecStart=/root/life.sh
StandardOutput=file:/root/life.log
StandardError=inherit
[Install]
WantedBy=multi-user.target
`

func TestServiceRunsUnderSystemd(t *testing.T) {
	releases := strings.Fields(os.Getenv(bootVariable))
	if len(releases) == 0 {
		t.Skip("fetches and boots Debian, a minute or two for each release: " + bootVariable + "='bookworm trixie' go test ./test/packages")
	}
	for _, tool := range []string{"mmdebstrap", "systemd-nspawn"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is wanted and this machine has no %s (packages mmdebstrap, systemd-container)", bootVariable, tool)
		}
	}
	deb := one(t, packages.get(t), "*.deb")
	for _, release := range releases {
		t.Run(release, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), bootTime)
			defer cancel()
			system := filepath.Join(t.TempDir(), release)
			out, err := exec.CommandContext(ctx, "mmdebstrap", "--variant=minbase",
				"--include=systemd,systemd-sysv,iproute2,procps,socat", release, system).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			script, err := os.ReadFile("testdata/life.sh")
			if err != nil {
				t.Fatal(err)
			}
			put := func(name, content string, mode os.FileMode) {
				name = filepath.Join(system, name)
				if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(name, []byte(content), mode); err != nil {
					t.Fatal(err)
				}
			}
			pack, err := os.ReadFile(deb)
			if err != nil {
				t.Fatal(err)
			}
			put("root/knockgw.deb", string(pack), 0o644)
			put("root/life.sh", string(script), 0o755)
			put("etc/systemd/system/life.service", lifeUnit, 0o644)
			put("etc/tmpfiles.d/tun.conf", "c! /dev/net/tun 0666 root root - 10:200\n", 0o644) // udev's work elsewhere
			put("etc/systemd/system/knockgw.service.d/quick.conf", "[Service]\nWatchdogSec=2s\n", 0o644)
			if out, err := exec.CommandContext(ctx, "systemctl", "--root", system, "enable", "life.service").CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}

			boot := exec.CommandContext(ctx, "systemd-nspawn", "--quiet", "--directory", system, "--boot", "--register=no", "--keep-unit",
				"--private-network", "--capability=CAP_NET_ADMIN,CAP_BPF", "--system-call-filter=bpf", "--console=pipe")
			boot.Env = append(os.Environ(), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1")
			boot.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			console, err := boot.CombinedOutput()
			log, logErr := os.ReadFile(filepath.Join(system, "root/life.log"))
			if logErr != nil {
				t.Fatalf("the system did not come up: %v, %v\n%s", err, logErr, console)
			}
			if !strings.Contains(string(log), "\nall is well\n") {
				t.Errorf("%v\n%s", err, log)
			}
		})
	}
}
