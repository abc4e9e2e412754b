package gateway

import (
	"context"
	"errors"
	"os"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/buildinfo"
	"github.com/knockgw/knockgw/internal/control"
)

// checkNotRunning returns an error if a gateway answers at the control socket.
func (g *Gateway) checkNotRunning() error {
	if socket := g.snapshots.current.Load().cfg.Control.Socket; socket != "" {
		return control.CheckFree(socket)
	}
	return nil
}

// listenControl opens the control socket; nil if the configuration has none.
func (g *Gateway) listenControl() (*controlServer, error) {
	socket := g.snapshots.current.Load().cfg.Control.Socket
	if socket == "" {
		return nil, nil
	}
	s, err := control.Listen(socket)
	if err != nil {
		return nil, err
	}
	return &controlServer{s, operator{g}}, nil
}

// A controlServer serves the control socket. A nil one serves nothing.
type controlServer struct {
	server  *control.Server
	gateway control.Gateway
}

func (s *controlServer) run(ctx context.Context) error {
	if s == nil {
		return nil
	}
	return s.server.Serve(ctx, s.gateway)
}

// connections returns the number of clients of the socket, and how many there
// may be.
func (s *controlServer) connections() (used, limit int) {
	if s == nil {
		return 0, control.MaxConnections
	}
	return s.server.Connections()
}

// Close closes the socket if run was not called.
func (s *controlServer) Close() error {
	if s == nil {
		return nil
	}
	return s.server.Close()
}

// operator implements control.Gateway: the commands of operators.
type operator struct{ g *Gateway }

// Status implements control.Gateway.
func (op operator) Status() control.Status {
	g := op.g
	cfg := g.snapshots.current.Load().cfg
	this := buildinfo.This()
	s := control.Status{
		Version: this.Version, Commit: this.Commit, Dirty: this.Dirty, Go: this.Go,
		PID: os.Getpid(), Since: g.observer.Started(), Config: g.o.Source,
		Services: len(cfg.Services), Clients: len(cfg.Clients), Flows: g.flows.Len(),
	}
	s.Reloaded, s.ReloadFailed = g.observer.Metrics.LastReload()
	s.PendingRestart, s.Problems = []string{}, []string{}
	if keys := g.pendingRestart.Load(); keys != nil {
		s.PendingRestart = append(s.PendingRestart, *keys...)
	}
	if in := g.running.Load(); in != nil {
		s.Problems = append(s.Problems, g.observer.HostProblems()...)
		s.Ready = len(s.Problems) == 0
		s.Grants = in.gate.Stats().Grants
	}
	return s
}

// Reload implements control.Gateway.
func (op operator) Reload(name string) (*control.Result, error) {
	done, cfg, err := op.g.reloadFromSource(name)
	if err != nil {
		return nil, controlError(err)
	}
	r := op.result(&done, cfg)
	r.Applied, r.Flows, r.Grants = true, done.ended.Flows, done.ended.Grants
	return r, nil
}

// Check implements control.Gateway.
func (op operator) Check() (*control.Result, error) {
	result, cfg, err := op.g.dryRun()
	if err != nil {
		return nil, controlError(err)
	}
	return op.result(&result, cfg), nil
}

func (op operator) result(r *reloadResult, cfg *config.Config) *control.Result {
	warnings := append([]string{}, cfg.Warnings...)
	if r.warning != "" {
		warnings = append(warnings, r.warning)
	}
	return &control.Result{Config: op.g.o.Source, Changes: r.changes, Warnings: warnings}
}

// controlError translates an error for the control socket.
func controlError(err error) error {
	if errors.Is(err, ErrNotRunning) {
		return control.ErrUnavailable
	}
	return err
}
