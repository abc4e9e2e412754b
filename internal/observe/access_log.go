package observe

import (
	"context"
	"log/slog"
	"time"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/flows"
	"github.com/knockgw/knockgw/internal/audit"
	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/loglimit"
)

// AccessLog logs which clients were admitted, denied and banned. Each kind of
// line has a rate limit, so that neither clients nor attackers can fill a disk.
// Messages that no client's secret decrypts are counted only.
type AccessLog struct {
	noEvents
	log   *slog.Logger
	now   func() time.Time
	audit *Audit

	admitted loglimit.Limiter
	denied   loglimit.Limiter
	banned   loglimit.Limiter
}

func newAccessLog(log *slog.Logger, now func() time.Time, a *Audit) *AccessLog {
	return &AccessLog{log: log, now: now, audit: a, admitted: loglimit.Limiter{PerSecond: audit.DefaultPerSecond}}
}

// level returns the level of events that the audit records too.
func (l *AccessLog) level() slog.Level {
	if l.audit.enabled() {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// Knock implements Sink.
func (l *AccessLog) Knock(e *knock.Event) {
	attrs := []any{"client", e.Client, "service", e.Service, "source", e.Source, "method", e.Method}
	switch e.Result {
	case knock.OK:
		l.admit("knock", attrs...)
	case knock.Incomplete, knock.Repeated:
		l.log.Debug("knock", append(attrs, "result", e.Result.String())...)
	default:
		if e.Client == "" {
			return // of an unauthorized host: counted only
		}
		attrs = append(attrs, "result", e.Result.String())
		if e.Result == knock.Stale {
			attrs = append(attrs, "clock_difference", e.Skew.Round(time.Millisecond))
		}
		l.deny(slog.LevelWarn, "knock denied", attrs...)
	}
}

// Auth implements Sink.
func (l *AccessLog) Auth(e *AuthEvent) {
	if e.Peer != nil {
		l.admit("authenticated", "client", e.Peer.Client.ID(), "service", e.Service, "source", e.Tuple.Source(), "protocol", e.Peer.Protocol.String())
		return
	}
	if !deniedClient(e) {
		return
	}
	attrs := []any{"service", e.Service, "source", e.Tuple.Source(), "result", e.Result.String()}
	if e.Err.Client != nil {
		attrs = append(attrs, "client", e.Err.Client.ID())
	}
	if e.Result == auth.ResultStale {
		attrs = append(attrs, "clock_difference", e.Err.ClockOffset.Round(time.Millisecond))
	}
	if e.Err.Err != nil {
		attrs = append(attrs, "err", e.Err.Err)
	}
	level := slog.LevelWarn
	if e.Result == auth.ResultStoreFailed {
		level = slog.LevelError
	}
	l.deny(level, "authentication denied", attrs...)
}

// deniedClient reports whether a known client failed to authenticate: its
// message decrypted. Other failures are counted only.
func deniedClient(e *AuthEvent) bool {
	if e.Err == nil {
		return false
	}
	switch e.Result {
	case auth.ResultStale, auth.ResultReplay, auth.ResultUnauthorized, auth.ResultProof, auth.ResultFull, auth.ResultStoreFailed:
		return true
	default:
		return false
	}
}

// Ban implements Sink.
func (l *AccessLog) Ban(b *admission.BanEvent) {
	if suppressed, ok := l.banned.Allow(l.now()); ok {
		l.log.Log(context.Background(), l.level(), "source banned from open services",
			loglimit.Attrs(suppressed, "source", b.Source, "service", b.Service, "failures", b.Failures, "duration", b.For)...)
	}
}

// Flow implements Sink. Flows that were not admitted are counted only.
func (l *AccessLog) Flow(f *flows.Flow, reason flows.CloseReason) {
	client := f.Client()
	if client == "" {
		return
	}
	up, down := f.Bytes()
	l.log.Log(context.Background(), l.level(), "session ended", "client", client, "source", f.Key.Client, "service", f.Service,
		"reason", reason.String(), "duration", time.Since(f.Started).Round(time.Millisecond), "received", up, "sent", down)
}

// admit logs the admission of a client.
func (l *AccessLog) admit(msg string, attrs ...any) {
	ctx, level := context.Background(), l.level()
	if !l.log.Enabled(ctx, level) {
		return
	}
	if suppressed, ok := l.admitted.Allow(l.now()); ok {
		l.log.Log(ctx, level, msg, loglimit.Attrs(suppressed, attrs...)...)
	}
}

// deny logs the denial of a client.
func (l *AccessLog) deny(level slog.Level, msg string, attrs ...any) {
	if suppressed, ok := l.denied.Allow(l.now()); ok {
		l.log.Log(context.Background(), level, msg, loglimit.Attrs(suppressed, attrs...)...)
	}
}
