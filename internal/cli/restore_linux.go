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

	"github.com/knockgw/knockgw/gateway"
	"github.com/knockgw/knockgw/internal/routing"
	"github.com/knockgw/knockgw/internal/sandbox"
)

// A gateway gives up the privilege that routes take, so that what gets into it cannot
// change them. A process of its own keeps it: it is started before, is told once which
// routes and rules to keep, and listens to nothing afterwards but the kernel, and
// whether the gateway is alive.
//
//	knockgw run --- pipe: the order, and the end ---> knockgw restore-routes
//	            <-- pipe: "ready" -------------------

const (
	restoreName = "restore-routes"
	// restoreStart is how long the process may take to be ready: a loaded machine.
	restoreStart = 20 * time.Second
	// restoreReady is what it says once it has given up what it does not need.
	restoreReady = "ready\n"
)

// restoreRequest is what the process is told.
type restoreRequest struct {
	Hold   routing.ProtectedSet `json:"hold"`
	Device int                  `json:"device"`
}

// restorer is the gateway's side of the process.
type restorer struct {
	log       *slog.Logger
	stdin     *os.File // its end is that of the process
	stdout    *os.File
	reading   sync.WaitGroup
	closeOnce sync.Once
	closing   chan struct{} // closed before life
}

func newRestorer(log *slog.Logger) *restorer {
	return &restorer{log: log, closing: make(chan struct{})}
}

// start starts the process, as the account if there is one, and waits until it is ready.
func (r *restorer) start(a *sandbox.Account, order restoreRequest) error {
	text, err := json.Marshal(order)
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	in, life, err := os.Pipe()
	if err != nil {
		return err
	}
	said, out, err := os.Pipe()
	if err != nil {
		return errors.Join(err, in.Close(), life.Close())
	}
	p, err := os.StartProcess(program, []string{program, restoreName}, &os.ProcAttr{
		Files: []*os.File{in, out, os.Stderr},
		Env:   []string{"GOMAXPROCS=1"}, // it has next to nothing to do
		Sys:   restoreAttributes(a),
	})
	err = errors.Join(err, in.Close(), out.Close())
	if err != nil {
		return errors.Join(err, life.Close(), said.Close())
	}
	_ = p.Release() // the gateway's sandbox has no way to wait for it; the pipe tells of its end
	r.stdin, r.stdout = life, said
	if _, err := life.Write(text); err != nil {
		return errors.Join(err, r.close())
	}
	if err := said.SetReadDeadline(time.Now().Add(restoreStart)); err != nil {
		return errors.Join(err, r.close())
	}
	lines := bufio.NewReader(said)
	if line, err := lines.ReadString('\n'); line != restoreReady {
		return errors.Join(fmt.Errorf("knockgw %s did not start: it said %q: %w", restoreName, line, err), r.close())
	}
	_ = said.SetReadDeadline(time.Time{})
	r.reading.Go(func() { r.watch(lines) })
	return nil
}

// watch logs that the process has ended before the gateway.
func (r *restorer) watch(from io.Reader) {
	_, _ = io.Copy(io.Discard, from)
	select {
	case <-r.closing:
	default:
		r.log.Error("the process that restores routes has ended: where another program deletes routes or rules, " +
			"the gateway will end with an error and needs a restart")
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

// restoreAttributes have the process be the account's, with the one capability. Where
// the gateway is not root, it inherits what a service manager has given.
func restoreAttributes(a *sandbox.Account) *syscall.SysProcAttr {
	if a == nil || os.Geteuid() != 0 {
		return nil
	}
	return &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: uint32(a.UID), Gid: uint32(a.GID)},
		AmbientCaps: []uintptr{unix.CAP_NET_ADMIN},
	}
}

// addRestoreCommand adds the command that the process runs.
func addRestoreCommand(root *cobra.Command) { root.AddCommand(restoreCommand()) }

// restoreCommand is the process. It is for run alone, and not listed.
func restoreCommand() *cobra.Command {
	return &cobra.Command{
		Use:    restoreName,
		Hidden: true,
		Short:  "Add routes and rules again that another program deletes",
		Long:   "Adds the routes and rules of a gateway again when another program deletes them. run starts it.",
		Args:   exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			// It ends when the gateway does, which may have flows to drain first.
			signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
			var order restoreRequest
			if err := json.NewDecoder(os.Stdin).Decode(&order); err != nil {
				return fmt.Errorf("%s is started by run, and by nothing else: %w", restoreName, err)
			}
			if err := sandbox.Enter(sandbox.Options{KeepRoutes: true}); err != nil {
				return err
			}
			if _, err := os.Stdout.WriteString(restoreReady); err != nil {
				return err
			}
			ctx, stop := context.WithCancel(context.WithoutCancel(cmd.Context()))
			defer stop()
			go func() { // ends with the gateway, and otherwise with this process
				_, _ = io.Copy(io.Discard, os.Stdin)
				stop()
			}()
			log := slog.New(slog.NewTextHandler(os.Stderr, nil))
			r := gateway.Restoration{Hold: order.Hold, Device: order.Device, Log: log, Alive: parentAlive}
			err := r.Run(ctx)
			if ctx.Err() != nil || !parentAlive() {
				return nil
			}
			log.Error("routes and rules are no longer restored", "error", err)
			return &reportedError{err}
		},
	}
}

// parentAlive reports whether the gateway holds its end of the pipe: it does to its
// very end, and not a moment longer.
func parentAlive() bool {
	fds := []unix.PollFd{{Fd: int32(unix.Stdin)}}
	_, err := unix.Poll(fds, 0)
	return err == nil && fds[0].Revents&(unix.POLLHUP|unix.POLLERR) == 0
}

// restores has the gateway start the process.
func (r *restorer) restores(a *sandbox.Account) func(routing.ProtectedSet, int) error {
	return func(h routing.ProtectedSet, device int) error { return r.start(a, restoreRequest{h, device}) }
}
