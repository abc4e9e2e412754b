package gateway

import (
	"context"
	"errors"
	"os"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/buildinfo"
	"github.com/knockgw/knockgw/internal/control"
)

// alone returns an error if a gateway answers at the control socket already.
func (g *Gateway) alone() error {
	if socket := g.now.Load().cfg.Control.Socket; socket != "" {
		return control.CheckFree(socket)
	}
	return nil
}

// listenControl makes the socket for the running gateway's commands; nil where the
// configuration has none.
func (g *Gateway) listenControl() (*controlServer, error) {
	socket := g.now.Load().cfg.Control.Socket
	if socket == "" {
		return nil, nil
	}
	s, err := control.Listen(socket)
	if err != nil {
		return nil, err
	}
	return &controlServer{g, s}, nil
}

// controlServer answers at the control socket; nil where there is none.
type controlServer struct {
	g      *Gateway
	server *control.Server
}

func (s *controlServer) run(ctx context.Context) error {
	if s == nil {
		return nil
	}
	return s.server.Serve(ctx, controlled{s.g})
}

// connections is how many clients there are at the socket, and how many there may be.
func (s *controlServer) connections() (now, most int) {
	if s == nil {
		return 0, control.MaxConnections
	}
	return s.server.Connections()
}

// Close gives the socket back where run was never called.
func (s *controlServer) Close() error {
	if s == nil {
		return nil
	}
	return s.server.Close()
}

// controlled is the gateway as the control socket knows it.
type controlled struct{ g *Gateway }

// Status implements control.Gateway.
func (c controlled) Status() control.Status {
	g := c.g
	now := g.now.Load()
	this := buildinfo.This()
	s := control.Status{
		Version: this.Version, Commit: this.Commit, Dirty: this.Dirty, Go: this.Go,
		PID: os.Getpid(), Since: g.started, Config: g.o.Source,
		Services: len(now.cfg.Services), Clients: len(now.cfg.Clients), Flows: g.flows.Len(),
	}
	s.Reloaded, s.ReloadFailed = g.metrics.lastReload()
	s.PendingRestart, s.Problems = []string{}, []string{}
	if restart := g.waiting.Load(); restart != nil {
		s.PendingRestart = append(s.PendingRestart, *restart...)
	}
	if p := g.running.Load(); p != nil {
		s.Problems = g.hostProblems(p)
		s.Ready = len(s.Problems) == 0
		s.Grants = p.gate.Stats().Grants
	}
	return s
}

// Reload implements control.Gateway.
func (c controlled) Reload(operator string) (*control.Result, error) {
	done, cfg, err := c.g.renew(operator)
	if err != nil {
		return nil, translated(err)
	}
	r := c.result(&done, cfg)
	r.Applied, r.Flows, r.Grants = true, done.ended.Flows, done.ended.Grants
	return r, nil
}

// Check implements control.Gateway.
func (c controlled) Check() (*control.Result, error) {
	would, cfg, err := c.g.rehearse()
	if err != nil {
		return nil, translated(err)
	}
	return c.result(&would, cfg), nil
}

func (c controlled) result(r *renewal, cfg *config.Config) *control.Result {
	warnings := append([]string{}, cfg.Warnings...)
	if r.note != "" {
		warnings = append(warnings, r.note)
	}
	return &control.Result{Config: c.g.o.Source, Changes: r.changes, Warnings: warnings}
}

func translated(err error) error {
	if errors.Is(err, ErrNotRunning) {
		return control.ErrUnavailable
	}
	return err
}
