package sandbox_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"os/user"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/knockgw/knockgw/internal/sandbox"
)

// t0 is the context of children, which have no testing.T.
func t0() context.Context { return context.Background() }

// changeRoutes requests a change that requires CAP_NET_ADMIN.
func changeRoutes(string) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetTxQLen(lo, 1234)
}

// childTime bounds one child; it takes a tenth of a second.
const childTime = 20 * time.Second

// try runs a child that makes an attempt in the sandbox.
func try(t *testing.T, attempt string) (said string, state *os.ProcessState) {
	t.Helper()
	return tryWith(t, attempt, nil)
}

func tryWith(t *testing.T, attempt string, attributes *syscall.SysProcAttr, env ...string) (said string, state *os.ProcessState) {
	t.Helper()
	if _, ok := attempts[attempt]; !ok {
		t.Fatalf("there is no attempt to %q", attempt)
	}
	dir, err := os.MkdirTemp("", "knockgw-sandbox-") // short, for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), childTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	// Under go test -cover the child writes at its end what it has covered,
	// where it may write; what it has to say about that is no part of its
	// answer.
	cmd.SysProcAttr = attributes
	cmd.Env = append(append(os.Environ(), env...), childVariable+"="+attempt, "DIR="+dir, "GORACE=atexit_sleep_ms=0", "GOCOVERDIR="+dir)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	err = cmd.Run()
	if complaints.Len() > 0 {
		t.Logf("the child's standard error:\n%s", complaints.String())
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v\n%s", err, out.String())
	}
	rest, ok := strings.CutPrefix(out.String(), "entered\n")
	if !ok {
		t.Fatalf("the child did not enter the sandbox (%v):\n%s", cmd.ProcessState, out.String())
	}
	return strings.TrimSpace(rest), cmd.ProcessState
}

func TestEnterPermitsGateway(t *testing.T) {
	t.Parallel()
	for _, attempt := range []string{
		"nothing", "write and replace a file", "TCP to itself", "TCP over IPv6", "unix socket",
		"serve metrics", "look up a name", "look up a name in C", "UDP to itself", "question about routes", "make many threads busy",
	} {
		t.Run(attempt, func(t *testing.T) {
			t.Parallel()
			if said, state := try(t, attempt); said != "done" {
				t.Errorf("%v: %s", state, said)
			}
		})
	}
}

// needsFilter skips a test on architectures without a filter.
func needsFilter(t *testing.T) {
	t.Helper()
	if !sandbox.Filters() {
		t.Skip("no filter of system calls for this architecture")
	}
}

func TestEnterKillsOnForbiddenCalls(t *testing.T) {
	t.Parallel()
	needsFilter(t)
	for _, attempt := range []string{
		"replace itself by a program", "trace", "mount", "make a mount", "change root",
		"enter a namespace of its own", "load a module", "ask for keys", "become root", "use io_uring",
	} {
		t.Run(attempt, func(t *testing.T) {
			t.Parallel()
			said, state := try(t, attempt)
			if status := state.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGSYS {
				t.Errorf("%v, not death by SIGSYS: %s", state, said)
			}
		})
	}
}

func TestEnterDeniesUnneededCalls(t *testing.T) {
	t.Parallel()
	needsFilter(t)
	const (
		noFamily = "address family not supported by protocol"
		no       = "operation not permitted"
	)
	for attempt, want := range map[string]string{
		"packet socket": noFamily, "raw IPv4 socket": noFamily, "raw IPv6 socket": noFamily,
		"netfilter's netlink": noFamily, "audit's netlink": noFamily, "vsock socket": noFamily,
		"bluetooth socket": noFamily, "kernel cryptography": noFamily, "XDP socket": noFamily,
		"pair of packet sockets": no,

		"run a program":  no, // not even a process to run it in
		"fork":           no,
		"fork by clone3": "function not implemented",

		"map memory that can be executed": no, "signal another process": no,
		"load a BPF program": no, "make a BPF table": no,
		"make a device": no, "open another device": no, "lift a limit": no, "rename the host": no,
		"change routes": no,
	} {
		t.Run(attempt, func(t *testing.T) {
			t.Parallel()
			if said, state := try(t, attempt); !strings.Contains(said, want) {
				t.Errorf("%v: %q, want %q", state, said, want)
			}
		})
	}
}

func TestEnterKeepsSignals(t *testing.T) {
	t.Parallel()
	said, state := try(t, "die of a signal")
	if status := state.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGTERM {
		t.Errorf("%v: %s", state, said)
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	daemon, err := user.Lookup("daemon")
	if err != nil {
		t.Skip("this system has no user daemon")
	}
	for _, c := range []struct {
		name, group string
		ok          bool
	}{
		{"daemon", "", true},
		{daemon.Uid, "", true},
		{"4000000", "4000001", true}, // numbers without a name
		{"4000000", "", false},       // no group
		{"no-such-user", "", false},
		{"daemon", "no-such-group", false},
		{"root", "", false},
		{"0", "0", false},
		{"4294967295", "1", false}, // means: do not change
		{"-1", "1", false},
	} {
		a, err := sandbox.Lookup(c.name, c.group)
		if (err == nil) != c.ok {
			t.Errorf("Lookup(%q, %q) = %v, %v", c.name, c.group, a, err)
		}
		if err != nil && !errors.Is(err, sandbox.ErrAccount) {
			t.Errorf("Lookup(%q, %q): %v is not ErrAccount", c.name, c.group, err)
		}
	}
}

// The process that restores routes can set routes only.
func TestEnterKeepsRoutesAlone(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root, for a network of its own")
	}
	for attempt, works := range map[string]bool{
		"nothing": true, "change routes": true, "question about routes": true, "make many threads busy": true,
		"write and replace a file": false, "TCP to itself": false, "UDP to itself": false, "unix socket": false,
		"packet socket": false, "netfilter's netlink": false, "open another device": false, "load a BPF program": false,
		"run a program": false, "become root": false, "signal another process": false,
	} {
		t.Run(attempt, func(t *testing.T) {
			t.Parallel()
			said, state := tryWith(t, attempt, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}, routesVariable+"=1")
			if (said == "done") != works {
				t.Errorf("%v: %s", state, said)
			}
		})
	}
}
