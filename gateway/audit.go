package gateway

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/flows"
	"github.com/knockgw/knockgw/internal/audit"
	"github.com/knockgw/knockgw/internal/buildinfo"
	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/packet"
)

// What goes into the audit: who knocked, who was refused of those who are known,
// every session at its end, and what operators did. Of strangers there are only the
// bans that they have earned; these, and refusals, which everybody can have written
// who repeats what he has overheard, take a small part of what the record has room for.

// openAudit opens the record that the configuration names, if it names one.
func (g *Gateway) openAudit() error {
	o := &g.now.Load().cfg.Audit
	if o.File == "" {
		return nil
	}
	f, err := audit.OpenFile(audit.FileOptions{Path: o.File, MaxBytes: o.MaxBytes, Keep: o.Keep})
	if err != nil {
		return &config.Error{File: g.o.Source, Key: "audit.file", Msg: "cannot be opened: " + err.Error() + "; make its directory, writable for the gateway", Err: err}
	}
	g.audit = audit.New(f, audit.Options{Now: g.o.Now, Failed: func(err error) {
		g.log.Error("the audit cannot be written; the gateway goes on without", "err", err)
	}})
	return nil
}

// runAudit writes the record. A disk that is full does not end the gateway: it is
// said in the log, and counted.
func (g *Gateway) runAudit(ctx context.Context) error {
	if g.audit == nil {
		return nil
	}
	if err := g.audit.Run(ctx); err != nil { // said before
		g.log.Error("the audit is incomplete", "lost", g.audit.Dropped())
	}
	return nil
}

// everyday is the level at which the log tells what the audit has as well.
func (g *Gateway) everyday() slog.Level {
	if g.audit != nil {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// auditKnock records a knock that was decided, of a client that is known.
func (g *Gateway) auditKnock(e *knock.Event) {
	kind := audit.Denied
	switch e.Result {
	case knock.OK:
		kind = audit.Knock
	case knock.Incomplete, knock.Repeated:
		return
	}
	a := audit.Event{Kind: kind, Client: e.Client, Source: e.Source.String(), Service: e.Service, Method: e.Method}
	if kind == audit.Denied {
		a.Reason = "knock: " + e.Result.Description()
		if e.Result == knock.Stale {
			a.ClockDifference = seconds(e.Skew)
		}
	}
	g.audit.Add(a)
}

// auditRefused records a failed authentication of a client that is known.
func (g *Gateway) auditRefused(e *auth.Error, service string, t packet.Tuple) {
	if e.Client == nil {
		return
	}
	g.audit.Add(refusedAuthentication(e, service, t))
}

// refusedAuthentication is the event of a failed authentication of a client that is
// known, in the words that the log's and the trace's readers get, where there are any.
func refusedAuthentication(e *auth.Error, service string, t packet.Tuple) audit.Event {
	a := audit.Event{
		Kind: audit.Denied, Client: e.Client.ID(), Source: t.Source().String(), Service: service,
		Reason: "authentication: " + cmp.Or(authWords(e.Result), e.Result.String()),
	}
	if e.Result == auth.ResultStale {
		a.ClockDifference = seconds(e.ClockOffset)
	}
	return a
}

// auditBan records that a source is shut out.
func (g *Gateway) auditBan(b *admission.BanEvent) {
	g.audit.Add(audit.Event{
		Kind: audit.Ban, Source: b.Source.String(), Service: b.Service, Until: g.o.Now().Add(b.For),
		Reason: fmt.Sprintf("%d failed authentications, the last from %s", b.Failures, b.From),
	})
}

// byProgram is who asked for what did not come by the control socket.
const byProgram = "the program itself (knockgw run: SIGHUP)"

// auditStart records who is at work from now on, and with what.
func (g *Gateway) auditStart(cfg *config.Config) {
	g.audit.Add(audit.Event{
		Kind: audit.Start, Reason: fmt.Sprintf("version %s, configuration %q, %d services, %d clients",
			buildinfo.This().Version, g.o.Source, len(cfg.Services), len(cfg.Clients)),
	})
}

// auditStop records the end, and why it has come.
func (g *Gateway) auditStop(why error) {
	e := audit.Event{Kind: audit.Stop, Reason: "asked to"}
	if why != nil {
		e.Reason = why.Error()
	}
	g.audit.Add(e)
}

// auditReload records a reload, or why it was refused.
func (g *Gateway) auditReload(done *renewal, operator string, err error) {
	e := audit.Event{Kind: audit.Reload, Operator: operator}
	if err != nil {
		e.Reason = "rejected: " + err.Error()
	} else {
		e.Reason = strings.Join(append([]string{
			fmt.Sprintf("%d flows and %d grants ended", done.ended.Flows, done.ended.Grants),
		}, done.changes.Lines()...), "; ")
	}
	g.audit.Add(e)
}

// auditSession records a flow that had been let in, at its end.
func (g *Gateway) auditSession(f *flows.Flow, end flows.CloseReason) {
	client := f.Client()
	if g.audit == nil || client == "" {
		return
	}
	up, down := f.Bytes()
	g.audit.Add(audit.Event{
		Kind: audit.Session, Client: client, Source: f.Key.Client.String(), Service: f.Service, Upstream: f.Upstream,
		Seconds: seconds(time.Since(f.Started)), Received: up, Sent: down, Reason: end.String(),
	})
}

// logSession logs the end of a flow that had been let in, as its beginning is.
func (g *Gateway) logSession(f *flows.Flow, end flows.CloseReason) {
	client := f.Client()
	if client == "" {
		return
	}
	up, down := f.Bytes()
	g.log.Log(context.Background(), g.everyday(), "session ended", "client", client, "source", f.Key.Client, "service", f.Service,
		"reason", end.String(), "took", time.Since(f.Started).Round(time.Millisecond), "received", up, "sent", down)
}
