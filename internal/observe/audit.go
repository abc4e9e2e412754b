package observe

import (
	"cmp"
	"context"
	"fmt"
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

// Audit records in the audit log which clients knocked and were denied, every
// session at its end, and the actions of operators. Of unauthorized hosts it
// records only their bans. Bans, and denials, which an attacker can cause by
// replaying captured messages, get a small share of the rate.
type Audit struct {
	noEvents
	o   Options
	log *audit.Log // nil if the configuration has none
}

// Open opens the file that the configuration names, if any. It is called before
// the first event.
func (a *Audit) Open() error {
	c := &a.o.Config().Audit
	if c.File == "" {
		return nil
	}
	f, err := audit.OpenFile(audit.FileOptions{Path: c.File, MaxBytes: c.MaxBytes, Keep: c.Keep})
	if err != nil {
		return &config.Error{File: a.o.Source, Key: "audit.file", Msg: "cannot be opened: " + err.Error() + "; make its directory, writable for the gateway", Err: err}
	}
	a.log = audit.New(f, audit.Options{Now: a.o.Now, Failed: func(err error) {
		a.o.Log.Error("cannot write the audit log; continuing without it", "err", err)
	}})
	return nil
}

// Run writes the audit log until ctx ends. A full disk does not stop the
// gateway: the failure is logged and counted.
func (a *Audit) Run(ctx context.Context) error {
	if a.log == nil {
		return nil
	}
	if err := a.log.Run(ctx); err != nil { // logged when it happened
		a.o.Log.Error("the audit log is incomplete", "dropped", a.log.Dropped())
	}
	return nil
}

func (a *Audit) enabled() bool { return a.log != nil }

// Knock implements Sink.
func (a *Audit) Knock(e *knock.Event) {
	event := audit.Event{Kind: audit.Knock, Client: e.Client, Source: e.Source.String(), Service: e.Service, Method: e.Method}
	switch {
	case e.Result == knock.OK:
	case e.Result == knock.Incomplete || e.Result == knock.Repeated || e.Client == "":
		return
	default:
		event.Kind, event.Reason = audit.Denied, "knock: "+e.Result.Description()
		if e.Result == knock.Stale {
			event.ClockDifference = seconds(e.Skew)
		}
	}
	a.log.Add(event)
}

// Auth implements Sink. Only failures of known clients are recorded: a success
// shows as a session.
func (a *Audit) Auth(e *AuthEvent) {
	if deniedClient(e) && e.Err.Client != nil {
		a.log.Add(deniedAuth(e.Err, e.Service, e.Tuple))
	}
}

// deniedAuth returns the event of a known client's failed authentication,
// described as in the log and in traces.
func deniedAuth(e *auth.Error, service string, t packet.Tuple) audit.Event {
	event := audit.Event{
		Kind: audit.Denied, Client: e.Client.ID(), Source: t.Source().String(), Service: service,
		Reason: "authentication: " + cmp.Or(describeAuth(e.Result), e.Result.String()),
	}
	if e.Result == auth.ResultStale {
		event.ClockDifference = seconds(e.ClockOffset)
	}
	return event
}

// Ban implements Sink.
func (a *Audit) Ban(b *admission.BanEvent) {
	a.log.Add(audit.Event{
		Kind: audit.Ban, Source: b.Source.String(), Service: b.Service, Until: a.o.Now().Add(b.For),
		Reason: fmt.Sprintf("%d failed authentications, the last from %s", b.Failures, b.From),
	})
}

// Flow implements Sink. Only admitted flows are recorded.
func (a *Audit) Flow(f *flows.Flow, reason flows.CloseReason) {
	client := f.Client()
	if a.log == nil || client == "" {
		return
	}
	up, down := f.Bytes()
	a.log.Add(audit.Event{
		Kind: audit.Session, Client: client, Source: f.Key.Client.String(), Service: f.Service, Upstream: f.Upstream,
		Seconds: seconds(time.Since(f.Started)), Received: up, Sent: down, Reason: reason.String(),
	})
}

// Start records that packets are admitted from now on, and by which
// configuration.
func (a *Audit) Start(cfg *config.Config) {
	a.log.Add(audit.Event{
		Kind: audit.Start, Reason: fmt.Sprintf("version %s, configuration %q, %d services, %d clients",
			buildinfo.This().Version, a.o.Source, len(cfg.Services), len(cfg.Clients)),
	})
}

// Stop records the end of a run and its cause; nil for an orderly stop.
func (a *Audit) Stop(cause error) {
	e := audit.Event{Kind: audit.Stop, Reason: "requested"}
	if cause != nil {
		e.Reason = cause.Error()
	}
	a.log.Add(e)
}

// Reload records a reload, or why it was rejected.
func (a *Audit) Reload(changes *config.Changes, ended admission.Revocation, operator string, err error) {
	e := audit.Event{Kind: audit.Reload, Operator: operator}
	if err != nil {
		e.Reason = "rejected: " + err.Error()
	} else {
		e.Reason = strings.Join(append([]string{
			fmt.Sprintf("%d flows and %d grants ended", ended.Flows, ended.Grants),
		}, changes.Lines()...), "; ")
	}
	a.log.Add(e)
}

// Add records another event.
func (a *Audit) Add(e audit.Event) { a.log.Add(e) }
