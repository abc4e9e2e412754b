//go:build linux

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// killDelay is how long a program may take to end after its context did, before its output is given up.
	killDelay = 2 * time.Second
	// logShown is how much of a program's log a failed test shows, in bytes from its end.
	logShown = 3 << 10
)

// Command prepares a program that RunCommand or StartCommand runs on the host. It dies with this process.
func (h *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // the tests say what to run
	cmd.WaitDelay = killDelay
	// The signal comes when the forking thread ends. Go ends no thread but those that a goroutine kept
	// locked to its end, and namespace.Do unlocks its own.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// Run runs a program on the host to its end and returns what it said on both streams.
func (h *Host) Run(ctx context.Context, name string, args ...string) (string, error) {
	return h.RunCommand(h.Command(ctx, name, args...))
}

// RunCommand is Run for a command prepared with Command.
func (h *Host) RunCommand(cmd *exec.Cmd) (string, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := h.ns.Do(cmd.Start); err != nil {
		return "", fmt.Errorf("%s: start %s: %w", h.Name, cmd.Path, err)
	}
	if err := cmd.Wait(); err != nil {
		return out.String(), fmt.Errorf("%s: %v: %w", h.Name, cmd.Args, err)
	}
	return out.String(), nil
}

// MustRun is Run for what cannot fail in a lab that works; it ends the test otherwise.
func (h *Host) MustRun(name string, args ...string) string {
	h.tb.Helper()
	out, err := h.Run(h.tb.Context(), name, args...)
	if err != nil {
		h.tb.Fatalf("%v\n%s", err, out)
	}
	return out
}

// ExitCode is the code that a program ended with, -1 if it did not end by itself.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

// A Process is a program that runs on a host while the test does something else.
type Process struct {
	tb    testing.TB
	cmd   *exec.Cmd
	log   processLog
	ended chan struct{}
	err   error // of Wait; read after ended
}

// Start starts a program on the host. It is killed when the test ends, and its log shown if the test failed.
func (h *Host) Start(name string, args ...string) *Process {
	h.tb.Helper()
	return h.StartCommand(h.tb, h.Command(context.Background(), name, args...))
}

// StartCommand is Start for a command prepared with Command, to end with the given test.
func (h *Host) StartCommand(tb testing.TB, cmd *exec.Cmd) *Process {
	tb.Helper()
	p := &Process{tb: tb, cmd: cmd, ended: make(chan struct{})}
	p.log.grown = make(chan struct{})
	cmd.Stdout, cmd.Stderr = &p.log, &p.log
	if err := h.ns.Do(cmd.Start); err != nil {
		tb.Fatalf("%s: start %s: %v", h.Name, cmd.Path, err)
	}
	go func() {
		defer close(p.ended)
		p.err = cmd.Wait()
	}()
	tb.Cleanup(func() {
		p.Kill()
		if tb.Failed() {
			text := p.Log()
			text = text[max(0, len(text)-logShown):]
			tb.Logf("log of %v on %s:\n%s", cmd.Args, h.Name, text)
		}
	})
	return p
}

// PID is the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends the process a signal; one that has ended takes none.
func (p *Process) Signal(s os.Signal) {
	p.tb.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.tb.Errorf("signal %v to %v: %v", s, p.cmd.Args, err)
	}
}

// Kill ends the process with SIGKILL and waits for its end.
func (p *Process) Kill() {
	p.tb.Helper()
	p.Signal(syscall.SIGKILL)
	<-p.ended
}

// Ended is closed when the process is gone.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Wait waits for the process to end by itself and returns its exit code.
func (p *Process) Wait(ctx context.Context) (int, error) {
	select {
	case <-p.ended:
		return ExitCode(p.err), nil
	case <-ctx.Done():
		return -1, fmt.Errorf("wait for %v to end: %w", p.cmd.Args, ctx.Err())
	}
}

// Log is what the process has said so far, on both streams.
func (p *Process) Log() string { return p.log.String() }

// WaitLog waits until the process has said something that found accepts.
func (p *Process) WaitLog(ctx context.Context, found func(log string) bool) error {
	for {
		grown := p.log.next()
		if found(p.Log()) {
			return nil
		}
		select {
		case <-grown:
		case <-p.ended:
			if found(p.Log()) {
				return nil
			}
			return fmt.Errorf("%v ended with code %d before it said what was waited for", p.cmd.Args,
				ExitCode(p.err))
		case <-ctx.Done():
			return fmt.Errorf("wait for the log of %v: %w", p.cmd.Args, ctx.Err())
		}
	}
}

// processLog collects what a process says and wakes those who wait for more.
type processLog struct {
	mu    sync.Mutex
	text  bytes.Buffer
	grown chan struct{} // closed and replaced at every write
}

// Write implements io.Writer.
func (l *processLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.grown)
	l.grown = make(chan struct{})
	return l.text.Write(b)
}

func (l *processLog) next() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.grown
}

// String is the log so far.
func (l *processLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
