// Package audit records security events: who was admitted, who was denied, and
// what operators did. Each event is one line of JSON in a file that rotates.
//
//	flows, gate --Add--> bounded queue --Run--> file, file.1 ... file.N
//
// The audit is separate from the log: the log is for finding faults, the audit
// for finding out weeks later who was connected. Add never blocks, and no
// client or attacker can fill a disk: the file's size, the number of rotated
// files and the events per second are bounded. Dropped events are counted in
// the next line; if none follows, a line is written for the count alone.
// Events that unauthorized hosts can cause get a small share of the rate, and
// events of operators are never dropped for it. Text that a remote host may
// have influenced is encoded as JSON, so that no control character reaches a
// terminal.
package audit

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/knockgw/knockgw/internal/ratelimit"
)

// A Kind is the type of an event.
type Kind string

// The kinds of events.
const (
	Start   Kind = "start"   // the gateway admits packets from now on
	Stop    Kind = "stop"    // the gateway stopped
	Reload  Kind = "reload"  // the configuration was reloaded, or rejected
	Knock   Kind = "knock"   // a knock created a grant
	Denied  Kind = "denied"  // a known client's knock or authentication failed
	Session Kind = "session" // an admitted flow ended
	Ban     Kind = "ban"     // a source was banned from the open services
	Unban   Kind = "unban"   // an operator removed bans
	Revoke  Kind = "revoke"  // an operator revoked grants or flows
	Dropped Kind = "dropped" // only the number of dropped events
)

// class returns the class of the actor that causes events of a kind.
func (k Kind) class() class {
	switch k {
	case Start, Stop, Reload, Unban, Revoke:
		return operators
	case Ban, Denied:
		return anonymous
	default:
		return clients
	}
}

// A class of actors has its own limit on events.
type class uint8

const (
	operators class = iota // unlimited: they hold the socket or the process
	clients
	anonymous // a share of the clients' rate
)

// An Event is one line of the audit. Empty fields are omitted.
type Event struct {
	Time     time.Time `json:"time"` // when it happened or ended; Add sets it if it is zero
	Kind     Kind      `json:"event"`
	Client   string    `json:"client,omitempty"`   // id
	Source   string    `json:"source,omitempty"`   // address, with the port of a connection
	Service  string    `json:"service,omitempty"`  // name
	Upstream string    `json:"upstream,omitempty"` // host:port
	Method   string    `json:"method,omitempty"`   // of a knock, or the protocol of an authentication
	// Seconds is the duration of a session.
	Seconds float64 `json:"seconds,omitempty"`
	// Received and Sent count a session's bytes from and to the client.
	Received uint64 `json:"received,omitempty"`
	Sent     uint64 `json:"sent,omitempty"`
	Reason   string `json:"reason,omitempty"` // why it was denied, banned or ended; what a reload changed
	Operator string `json:"operator,omitempty"`
	// Until is when a ban ends.
	Until time.Time `json:"until,omitzero"`
	// ClockDifference is the client's clock minus ours in seconds, if that is
	// why the client was denied.
	ClockDifference float64 `json:"clock_difference,omitempty"`
	// Dropped is the number of events dropped before this one.
	Dropped uint64 `json:"dropped,omitempty"`
}

const (
	// DefaultPerSecond is the maximum rate of events, and burstSeconds the burst
	// in seconds of that rate. An event has 250 bytes, so that the default files
	// hold half an hour of the worst case.
	DefaultPerSecond = 200
	burstSeconds     = 10
	// anonymousShare is the divisor of the rate for events that unauthorized
	// hosts can cause, 5 per second: an attacker with many addresses can get
	// each of them banned, and can replay messages that it captured. Neither
	// must displace the sessions.
	anonymousShare = 40
	// maxQueued is how many events wait for a slow disk; reservedForOperators of
	// these slots are kept for operators' events.
	maxQueued            = 4096
	reservedForOperators = 64
	// flushAfter is how long dropped events wait for a line that counts them
	// before they get one of their own.
	flushAfter = 10 * time.Second
	// maxText is the maximum length of a text, in bytes. A client ID may have
	// 64 KiB.
	maxText = 256
)

// A Log writes events. Its methods are safe for concurrent use.
type Log struct {
	out            io.WriteCloser
	now            func() time.Time
	limit          *ratelimit.Limiter // of clients and unauthorized hosts
	anonymousLimit *ratelimit.Limiter // of unauthorized hosts, in addition
	events         chan Event
	pending        atomic.Uint64 // dropped since the last line
	dropped        atomic.Uint64
	failed         func(error)
	running        sync.Mutex // held by Run
	failing        bool       // since the last successful write; used by Run only
}

// Options configure a Log.
type Options struct {
	PerSecond int              // events; default DefaultPerSecond
	Now       func() time.Time // default time.Now
	// Failed is called when writing fails, once until a write succeeds again.
	// Optional.
	Failed func(error)
}

// New returns a Log that writes to out while Run runs, each line in one Write,
// and closes out at the end.
func New(out io.WriteCloser, o Options) *Log {
	if o.PerSecond <= 0 {
		o.PerSecond = DefaultPerSecond
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Failed == nil {
		o.Failed = func(error) {}
	}

	return &Log{
		out: out, now: o.Now, failed: o.Failed, events: make(chan Event, maxQueued),
		limit: limiter(o.PerSecond), anonymousLimit: limiter(max(1, o.PerSecond/anonymousShare)),
	}
}

func limiter(perSecond int) *ratelimit.Limiter {
	return ratelimit.NewLimiter(ratelimit.Rate{PerSecond: float64(perSecond), Burst: float64(perSecond * burstSeconds)})
}

// Add queues an event, or drops and counts it. It never blocks. On a nil Log it
// does nothing.
func (l *Log) Add(e Event) {
	if l == nil {
		return
	}
	if e.Time.IsZero() {
		e.Time = l.now()
	}
	if !l.allow(e.Kind.class()) {
		l.drop(1)
		return
	}
	select {
	case l.events <- e:
	default:
		l.drop(1)
	}
}

// allow reports whether the limits permit one more event of a class.
func (l *Log) allow(c class) bool {
	if c == operators {
		return true
	}
	if c == anonymous && !l.anonymousLimit.Allow() {
		return false
	}
	return l.limit.Allow() && len(l.events) < maxQueued-reservedForOperators
}

func (l *Log) drop(n uint64) {
	l.pending.Add(n)
	l.dropped.Add(n)
}

// Dropped returns how many events were dropped so far or could not be written.
func (l *Log) Dropped() uint64 {
	if l == nil {
		return 0
	}
	return l.dropped.Load()
}

// Queued returns how many events wait to be written, and how many may.
func (l *Log) Queued() (used, limit int) {
	if l == nil {
		return 0, maxQueued
	}
	return len(l.events), maxQueued
}

// Burst returns how much of the burst allowance is used: events above the
// sustained rate.
func (l *Log) Burst() (used, limit int) {
	if l == nil {
		return 0, DefaultPerSecond * burstSeconds
	}
	return l.limit.Used()
}

// Run writes events until ctx ends, then those still queued, and closes the
// output. It continues after a write error, because a full disk may get space
// again, and returns the first error.
func (l *Log) Run(ctx context.Context) error {
	l.running.Lock()
	defer l.running.Unlock()

	var first error
	tick := time.NewTicker(flushAfter)
	defer tick.Stop()
	for {
		select {
		case e := <-l.events:
			first = cmp.Or(first, l.write(e))
		case <-tick.C:
			first = cmp.Or(first, l.flush())
		case <-ctx.Done():
			for {
				select {
				case e := <-l.events:
					first = cmp.Or(first, l.write(e))
				default:
					return errors.Join(cmp.Or(first, l.flush()), l.out.Close())
				}
			}
		}
	}
}

// flush writes the number of dropped events, if there are any.
func (l *Log) flush() error {
	if l.pending.Load() == 0 {
		return nil
	}
	return l.write(Event{Time: l.now(), Kind: Dropped})
}

// write writes one line.
func (l *Log) write(e Event) error {
	for _, s := range []*string{&e.Client, &e.Source, &e.Service, &e.Upstream, &e.Method, &e.Reason, &e.Operator} {
		if len(*s) > maxText {
			*s = (*s)[:maxText] + "..."
		}
	}

	dropped := l.pending.Swap(0)
	e.Dropped = dropped
	line, err := json.Marshal(e)
	if err == nil {
		_, err = l.out.Write(append(escape(line), '\n'))
	}
	if err == nil {
		l.failing = false
		return nil
	}

	l.pending.Add(dropped)
	if e.Kind != Dropped {
		l.drop(1)
	}
	err = fmt.Errorf("audit: %w", err)
	if !l.failing {
		l.failed(err)
	}
	l.failing = true
	return err
}

// escape escapes what JSON permits in a string but a terminal may interpret:
// control characters like U+009B, and those that change the direction of text.
func escape(line []byte) []byte {
	hidden := func(r rune) bool { return !unicode.IsPrint(r) }
	if !bytes.ContainsFunc(line, hidden) {
		return line
	}
	var out []byte
	for _, r := range string(line) {
		if !hidden(r) {
			out = utf8.AppendRune(out, r)
			continue
		}
		for _, half := range utf16.AppendRune(nil, r) {
			out = fmt.Appendf(out, `\u%04x`, half)
		}
	}
	return out
}
