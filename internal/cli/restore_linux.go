package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/knockgw/knockgw/internal/observe"
	"github.com/knockgw/knockgw/internal/routing"
	"github.com/knockgw/knockgw/internal/sandbox"
)

// The gateway drops the privilege to change routes, so that an attacker who
// takes it over cannot change them. A separate process keeps that privilege. It
// is started before, receives once the routes and rules to keep, and afterwards
// reads only from the kernel and from a pipe that ends with the gateway.
//
//	knockgw run --- pipe: the request, and the end ---> knockgw restore-routes
//	            <-- pipe: "ready" --------------------

const (
	restoreName = "restore-routes"
	// restoreStart is how long the process may take to start on a loaded
	// machine.
	restoreStart = 20 * time.Second
	// restoreReady is written by the process when it has dropped its privileges.
	restoreReady = "ready\n"
)

// restoreRequest is what the process receives.
type restoreRequest struct {
	Hold   routing.ProtectedSet `json:"hold"`
	Device int                  `json:"device"`
}

// restorer is the gateway's end of the process.
type restorer struct {
	log       *slog.Logger
	stdin     *os.File // the process exits when it is closed
	stdout    *os.File
	reading   sync.WaitGroup
	closeOnce sync.Once
	closing   chan struct{} // closed before stdin
}

func newRestorer(log *slog.Logger) *restorer {
	return &restorer{log: log, closing: make(chan struct{})}
}

// start starts the process, under the account if not nil, and waits until it is
// ready.
func (r *restorer) start(a *sandbox.Account, request restoreRequest) error {
	text, err := json.Marshal(request)
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	in, stdin, err := os.Pipe()
	if err != nil {
		return err
	}
	stdout, out, err := os.Pipe()
	if err != nil {
		return errors.Join(err, in.Close(), stdin.Close())
	}

	p, err := os.StartProcess(program, []string{program, restoreName}, &os.ProcAttr{
		Files: []*os.File{in, out, os.Stderr},
		Env:   []string{"GOMAXPROCS=1"}, // it is idle most of the time
		Sys:   restoreAttributes(a),
	})
	err = errors.Join(err, in.Close(), out.Close())
	if err != nil {
		return errors.Join(err, stdin.Close(), stdout.Close())
	}
	_ = p.Release() // the gateway's sandbox cannot wait for it; the pipe reports its end
	r.stdin, r.stdout = stdin, stdout

	if _, err := stdin.Write(text); err != nil {
		return errors.Join(err, r.close())
	}
	if err := stdout.SetReadDeadline(time.Now().Add(restoreStart)); err != nil {
		return errors.Join(err, r.close())
	}
	lines := bufio.NewReader(stdout)
	if line, err := lines.ReadString('\n'); line != restoreReady {
		return errors.Join(fmt.Errorf("start knockgw %s: it wrote %q: %w", restoreName, line, err), r.close())
	}
	_ = stdout.SetReadDeadline(time.Time{})
	r.reading.Go(func() { r.watch(lines) })
	return nil
}

// watch logs an error if the process ends before the gateway.
func (r *restorer) watch(from io.Reader) {
	_, _ = io.Copy(io.Discard, from)
	select {
	case <-r.closing:
	default:
		r.log.Error("the process that restores routes has ended: if another process deletes routes or rules, " +
			"the gateway will stop with an error and need a restart")
	}
}

// close ends the process.
func (r *restorer) close() (err error) {
	r.closeOnce.Do(func() {
		close(r.closing)
		if r.stdin != nil {
			err = errors.Join(r.stdin.Close(), r.stdout.Close())
		}
		r.reading.Wait()
	})
	return err
}

// restoreAttributes runs the process under the account, with CAP_NET_ADMIN. If
// the gateway is not root, the process inherits the capabilities from the
// service manager.
func restoreAttributes(a *sandbox.Account) *syscall.SysProcAttr {
	if a == nil || os.Geteuid() != 0 {
		return nil
	}
	return &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: uint32(a.UID), Gid: uint32(a.GID)},
		AmbientCaps: []uintptr{unix.CAP_NET_ADMIN},
	}
}

// addRestoreCommand adds the hidden command that the process runs.
func addRestoreCommand(root *cobra.Command) { root.AddCommand(restoreCommand()) }

// restoreCommand returns the command of the process, which only run starts.
func restoreCommand() *cobra.Command {
	return &cobra.Command{
		Use:    restoreName,
		Hidden: true,
		Short:  "Restore deleted routes and rules",
		Long: "Restores the routes and rules of a gateway when another process deletes them. It is\n" +
			"started by knockgw run.",
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			// It ends with the gateway, which may drain flows first.
			signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)

			var request restoreRequest
			if err := json.NewDecoder(os.Stdin).Decode(&request); err != nil {
				return fmt.Errorf("%s can only be started by knockgw run: %w", restoreName, err)
			}
			if err := sandbox.Enter(sandbox.Options{KeepRoutes: true}); err != nil {
				return err
			}
			if _, err := os.Stdout.WriteString(restoreReady); err != nil {
				return err
			}

			ctx, stop := context.WithCancel(context.WithoutCancel(cmd.Context()))
			defer stop()
			go func() { // ends with the gateway, or with this process
				_, _ = io.Copy(io.Discard, os.Stdin)
				stop()
			}()

			log := slog.New(slog.NewTextHandler(os.Stderr, nil))
			r := observe.RouteRestorer{Routes: request.Hold, Device: request.Device, Log: log, Alive: parentAlive}
			err := r.Run(ctx)
			if ctx.Err() != nil || !parentAlive() {
				return nil
			}
			log.Error("routes and rules are no longer restored", "err", err)
			return &reportedError{err}
		},
	}
}

// parentAlive reports whether the gateway holds its end of the pipe, which it
// does until it exits.
func parentAlive() bool {
	fds := []unix.PollFd{{Fd: int32(unix.Stdin)}}
	_, err := unix.Poll(fds, 0)
	return err == nil && fds[0].Revents&(unix.POLLHUP|unix.POLLERR) == 0
}

// startFunc returns the function with which the gateway starts the process.
func (r *restorer) startFunc(a *sandbox.Account) func(routing.ProtectedSet, int) error {
	return func(h routing.ProtectedSet, device int) error { return r.start(a, restoreRequest{h, device}) }
}
