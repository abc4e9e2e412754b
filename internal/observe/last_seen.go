package observe

import (
	"net/netip"
	"sync"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/internal/control"
	"github.com/knockgw/knockgw/internal/knock"
)

// LastSeen records for each client of the configuration when it was last
// admitted and how it last failed. Only messages that decrypted with a client's
// secret are recorded; an attacker can cause a record only by replaying a
// captured message, which shows as a replay. There is one record per client,
// and per client of the configuration before.
type LastSeen struct {
	noEvents
	now func() time.Time

	mu      sync.Mutex
	clients map[string]*ClientRecord // by client ID
}

// A ClientRecord has a client's last attempts; nil for none.
type ClientRecord struct{ Seen, Denied *control.Attempt }

// record stores an attempt.
func (l *LastSeen) record(client string, ok bool, a control.Attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.clients[client]
	if r == nil {
		if l.clients == nil {
			l.clients = make(map[string]*ClientRecord)
		}
		r = new(ClientRecord)
		l.clients[client] = r
	}
	if ok {
		r.Seen = &a
		return
	}
	if last := r.Denied; last != nil && last.Result == a.Result && last.Service == a.Service && (r.Seen == nil || last.Time.After(r.Seen.Time)) {
		a.Repeats = last.Repeats + 1
	}
	r.Denied = &a
}

// Get returns a copy of a client's record.
func (l *LastSeen) Get(client string) ClientRecord {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.clients[client]; r != nil {
		return *r // attempts are not modified once stored
	}
	return ClientRecord{}
}

// Retain removes the records of all other clients.
func (l *LastSeen) Retain(clients map[string]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.clients {
		if !clients[id] {
			delete(l.clients, id)
		}
	}
}

// Knock implements Sink.
func (l *LastSeen) Knock(e *knock.Event) {
	if e.Client == "" || e.Result == knock.Incomplete {
		return
	}
	a := control.Attempt{
		Time: l.now(), Source: e.Source, Service: e.Service, Method: e.Method,
		Result: e.Result.String(), Message: e.Result.Description(),
	}
	if e.Timed && e.Result != knock.Replayed {
		a.ClockDifference = clockDifference(e.Skew)
	}
	l.record(e.Client, e.Result == knock.OK || e.Result == knock.Repeated, a)
}

// Auth implements Sink.
func (l *LastSeen) Auth(e *AuthEvent) {
	switch {
	case e.Peer != nil:
		l.authenticated(e.Peer, e.Service, e.Tuple.Src.Netip())
	case e.Err != nil && e.Err.Client != nil:
		l.denied(e.Err, e.Service, e.Tuple.Src.Netip())
	}
}

// authenticated records a successful authentication.
func (l *LastSeen) authenticated(p *auth.Peer, service string, from netip.Addr) {
	l.record(p.Client.ID(), true, control.Attempt{
		Time: l.now(), Source: from, Service: service, Method: "authentication " + p.Protocol.String(), Result: auth.ResultOK.String(),
		// As of when the message was read: it may have waited for its knock
		// since.
		ClockDifference: clockDifference(p.ClockOffset),
	})
}

// denied records a failed authentication whose message decrypted.
func (l *LastSeen) denied(e *auth.Error, service string, from netip.Addr) {
	a := control.Attempt{
		Time: l.now(), Source: from, Service: service, Method: "authentication", Result: e.Result.String(),
		Message: describeAuth(e.Result),
	}
	if e.Result != auth.ResultReplay {
		a.ClockDifference = clockDifference(e.ClockOffset)
	}
	if e.Result == auth.ResultUnauthorized && e.Err != nil {
		a.Message = e.Err.Error()
	}
	l.record(e.Client.ID(), false, a)
}

// clockDifference returns a measured difference of clocks. A message without a
// time stamp, or a replayed one, measures nothing and has none.
func clockDifference(ahead time.Duration) *float64 {
	s := seconds(ahead)
	return &s
}

// seconds returns a duration as shown to operators, in milliseconds' resolution.
func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }

// describeAuth describes the result of an authentication whose message
// decrypted.
func describeAuth(r auth.Result) string {
	switch r {
	case auth.ResultStale:
		return "its time is too far from ours: a clock is wrong, or it was delayed"
	case auth.ResultProof:
		return "it requests a server proof, which the service does not give (auth.proof)"
	case auth.ResultUnauthorized:
		return "the client has no matching grant"
	case auth.ResultReplay:
		return "it was seen before"
	case auth.ResultFull:
		return "the replay store is full"
	case auth.ResultStoreFailed:
		return "the replay store could not record it"
	default:
		return ""
	}
}
