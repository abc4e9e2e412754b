//go:build linux

package lab

import (
	"context"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/netlab"
)

const (
	// killDelay is how long a program may take to end after its context did,
	// before its output is abandoned.
	killDelay = 2 * time.Second
	// logShown is how much of a program's log a failed test shows, in bytes from
	// its end.
	logShown = 3 << 10
)

// Command prepares a program that RunCommand or StartCommand runs on the host.
// It dies with this process.
func (h *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // the tests choose what to run
	cmd.WaitDelay = killDelay
	cmd.SysProcAttr = &syscall.SysProcAttr{} // for the caller to add to
	return cmd
}

// Run runs a program on the host and returns its output on both streams.
func (h *Host) Run(ctx context.Context, name string, args ...string) (string, error) {
	return h.RunCommand(h.Command(ctx, name, args...))
}

// RunCommand is Run for a command prepared with Command.
func (h *Host) RunCommand(cmd *exec.Cmd) (string, error) { return h.Host.Run(cmd) }

// MustRun is Run for commands that cannot fail in a working lab; a failure ends
// the test.
func (h *Host) MustRun(name string, args ...string) string {
	h.tb.Helper()
	out, err := h.Run(h.tb.Context(), name, args...)
	if err != nil {
		h.tb.Fatalf("%v\n%s", err, out)
	}
	return out
}

// ExitCode returns the code that a program ended with, or -1 if it did not end
// by itself.
func ExitCode(err error) int { return netlab.ExitCode(err) }

// A Process is a program that runs on a host while the test does something else.
type Process struct {
	*netlab.Process

	tb testing.TB
}

// Start starts a program on the host. It is killed when the test ends, and its
// log is shown if the test failed.
func (h *Host) Start(name string, args ...string) *Process {
	h.tb.Helper()
	return h.StartCommand(h.tb, h.Command(context.Background(), name, args...))
}

// StartCommand is Start for a command prepared with Command, to end with the
// given test.
func (h *Host) StartCommand(tb testing.TB, cmd *exec.Cmd) *Process {
	tb.Helper()
	started, err := h.Host.Start(cmd)
	if err != nil {
		tb.Fatal(err)
	}

	p := &Process{Process: started, tb: tb}
	tb.Cleanup(func() {
		p.Kill()
		if tb.Failed() {
			text := p.Log()
			text = text[max(0, len(text)-logShown):]
			tb.Logf("log of %v on %s:\n%s", p.Args(), h.Name, text)
		}
	})
	return p
}

// Signal sends the process a signal; a process that has ended takes none.
func (p *Process) Signal(s os.Signal) {
	p.tb.Helper()
	if err := p.Process.Signal(s); err != nil {
		p.tb.Error(err)
	}
}

// Kill ends the process with SIGKILL and waits for its end.
func (p *Process) Kill() {
	p.tb.Helper()
	if err := p.Process.Kill(); err != nil {
		p.tb.Error(err)
	}
}
