package netlab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// A Process is a program that runs on a host.
type Process struct {
	cmd   *exec.Cmd
	log   processLog
	ended chan struct{}
	err   error // of Wait; read after ended
}

// Start starts a program on the host, with both output streams in the Process's
// log. The program dies with this process.
func (h *Host) Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, ended: make(chan struct{})}
	p.log.grown = make(chan struct{})
	cmd.Stdout, cmd.Stderr = &p.log, &p.log
	if err := h.start(cmd); err != nil {
		return nil, err
	}

	go func() {
		defer close(p.ended)
		p.err = cmd.Wait()
	}()
	return p, nil
}

// Run runs a program on the host and returns its output on both streams.
func (h *Host) Run(cmd *exec.Cmd) (string, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := h.start(cmd); err != nil {
		return "", err
	}
	if err := cmd.Wait(); err != nil {
		return out.String(), fmt.Errorf("%s: %v: %w", h.Name, cmd.Args, err)
	}
	return out.String(), nil
}

func (h *Host) start(cmd *exec.Cmd) error {
	// The signal is sent when the thread that forked ends. Go ends no thread but
	// those that a goroutine kept locked, and Namespace.Do unlocks its own.
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := h.Do(cmd.Start); err != nil {
		return fmt.Errorf("%s: start %s: %w", h.Name, cmd.Path, err)
	}
	return nil
}

// Args returns the command line.
func (p *Process) Args() []string { return p.cmd.Args }

// PID returns the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal; a process that has ended takes none, which is no error.
func (p *Process) Signal(s os.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %v to %v: %w", s, p.cmd.Args, err)
	}
	return nil
}

// Kill ends the process with SIGKILL and waits for its end.
func (p *Process) Kill() error {
	err := p.Signal(syscall.SIGKILL)
	<-p.ended
	return err
}

// Ended is closed when the process is gone.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Wait waits for the process to end and returns its exit code.
func (p *Process) Wait(ctx context.Context) (int, error) {
	select {
	case <-p.ended:
		return ExitCode(p.err), nil
	case <-ctx.Done():
		return -1, fmt.Errorf("wait for %v to end: %w", p.cmd.Args, ctx.Err())
	}
}

// Err returns how the process has ended: nil while it runs and after exit code
// 0.
func (p *Process) Err() error {
	select {
	case <-p.ended:
		return p.err
	default:
		return nil
	}
}

// ExitCode returns the code that a program ended with, or -1 if it did not end
// by itself.
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

// Log returns the output so far, of both streams.
func (p *Process) Log() string { return p.log.String() }

// WaitLog waits until found accepts the log.
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
			return fmt.Errorf("%v ended with code %d before it logged the expected line", p.cmd.Args, ExitCode(p.err))
		case <-ctx.Done():
			return fmt.Errorf("wait for the log of %v: %w", p.cmd.Args, ctx.Err())
		}
	}
}

// processLog collects output and wakes those who wait for more.
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

// String returns the log so far.
func (l *processLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Status returns how the process has ended, in words. It must have ended.
func (p *Process) Status() string { return p.cmd.ProcessState.String() }
