package gateway

import (
	"net/netip"
	"sync"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/internal/control"
	"github.com/knockgw/knockgw/internal/knock"
)

// journal remembers of each client of the configuration when it was last seen and
// how it last failed: what its owner wants to know who stands outside. Only
// messages that opened are written in it: a stranger can have one written who sends
// again what he has overheard, which shows as a replay. It has no more entries than
// there are clients, and those of one reload.
type journal struct {
	mu      sync.Mutex
	entries map[string]*entry // by client id
}

type entry struct{ seen, refused *control.Attempt }

// note writes an attempt down.
func (j *journal) note(client string, ok bool, a control.Attempt) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := j.entries[client]
	if e == nil {
		if j.entries == nil {
			j.entries = make(map[string]*entry)
		}
		e = new(entry)
		j.entries[client] = e
	}
	if ok {
		e.seen = &a
		return
	}
	if last := e.refused; last != nil && last.Result == a.Result && last.Service == a.Service && (e.seen == nil || last.Time.After(e.seen.Time)) {
		a.Repeats = last.Repeats + 1
	}
	e.refused = &a
}

// of returns a copy of a client's entry.
func (j *journal) of(client string) entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	if e := j.entries[client]; e != nil {
		return *e // attempts are never changed once they are there
	}
	return entry{}
}

// keep forgets everybody else than clients.
func (j *journal) keep(clients map[string]bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for id := range j.entries {
		if !clients[id] {
			delete(j.entries, id)
		}
	}
}

// knocked writes down a decided knock, if it is anybody's.
func (j *journal) knocked(e knock.Event, now time.Time) {
	if e.Client == "" || e.Result == knock.Incomplete {
		return
	}
	a := control.Attempt{
		Time: now, Source: e.Source, Service: e.Service, Method: e.Method,
		Result: e.Result.String(), Message: e.Result.Description(),
	}
	if e.Timed && e.Result != knock.Replayed {
		a.ClockDifference = clockDifference(e.Skew)
	}
	j.note(e.Client, e.Result == knock.OK || e.Result == knock.Repeated, a)
}

// authenticated writes down an authentication that succeeded.
func (j *journal) authenticated(p *auth.Peer, service string, from netip.Addr, now time.Time) {
	j.note(p.Client.ID(), true, control.Attempt{
		Time: now, Source: from, Service: service, Method: "authentication " + p.Protocol.String(), Result: auth.ResultOK.String(),
		// As of the moment that the message was read: it may have waited for its knock since.
		ClockDifference: clockDifference(p.ClockOffset),
	})
}

// refused writes down an authentication that failed, if its message opened.
func (j *journal) refused(e *auth.Error, service string, from netip.Addr, now time.Time) {
	if e.Client == nil {
		return
	}
	a := control.Attempt{
		Time: now, Source: from, Service: service, Method: "authentication", Result: e.Result.String(),
		Message: authWords(e.Result),
	}
	if e.Result != auth.ResultReplay {
		a.ClockDifference = clockDifference(e.ClockOffset)
	}
	if e.Result == auth.ResultUnauthorized && e.Err != nil {
		a.Message = e.Err.Error()
	}
	j.note(e.Client.ID(), false, a)
}

// clockDifference is a measured difference of clocks. A message that says no time,
// or an old one again, measures nothing, and has none.
func clockDifference(ahead time.Duration) *float64 {
	s := seconds(ahead)
	return &s
}

// authWords explain the result of an authentication whose message opened.
func authWords(r auth.Result) string {
	switch r {
	case auth.ResultStale:
		return "its time is too far from ours: a clock is wrong, or it was held up"
	case auth.ResultProof:
		return "it asks for a server proof, which the service does not give (auth.proof)"
	case auth.ResultUnauthorized:
		return "no grant of this client fits"
	case auth.ResultReplay:
		return "it was seen before"
	case auth.ResultFull:
		return "the replay store is full"
	case auth.ResultStoreFailed:
		return "the replay store could not write it down"
	default:
		return ""
	}
}
