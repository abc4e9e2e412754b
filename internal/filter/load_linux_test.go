package filter

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/knockgw/knockgw/internal/testtool"
)

// requireFilters skips the test where filters cannot be loaded.
func requireFilters(t *testing.T) {
	t.Helper()
	f, err := Open(Options{})
	if errors.Is(err, fs.ErrPermission) && !testtool.Required() {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// childVariable makes TestOpenNeedsOnlyBPF its own child.
const childVariable = "KNOCKGW_FILTER_CHILD"

// The systemd unit grants CAP_BPF, and not the CAP_PERFMON that relaxes the
// verifier's rules.
func TestOpenNeedsOnlyBPF(t *testing.T) {
	if os.Getenv(childVariable) == "1" {
		f, err := Open(Options{})
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		return
	}
	requireFilters(t)

	const unprivileged = 65534
	child := exec.Command("/proc/self/exe", "-test.run", "^TestOpenNeedsOnlyBPF$")
	child.Env = append(os.Environ(), childVariable+"=1")
	child.SysProcAttr = &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: unprivileged, Gid: unprivileged},
		AmbientCaps: []uintptr{unix.CAP_BPF},
	}
	if out, err := child.CombinedOutput(); err != nil {
		t.Errorf("with CAP_BPF alone: %v\n%s", err, out)
	}
}

// The error has the verifier's message, in a few lines.
func TestOpenErrorQuotesVerifier(t *testing.T) {
	requireFilters(t)
	spec, err := loadProgram()
	if err != nil {
		t.Fatal(err)
	}
	spec.Programs[programProgKnockgw].Instructions = asm.Instructions{asm.Return()} // without a value
	var o objects
	err = explain(spec.LoadAndAssign(&o, nil))
	if err == nil {
		t.Fatal("the verifier accepts a program without a result")
	}
	if s := err.Error(); !strings.Contains(s, "Linux 5.15") || !strings.Contains(s, "R0 !read_ok") || strings.Count(s, "\n") > 2 {
		t.Errorf("%q", s)
	}
}
