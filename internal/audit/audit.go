// Package audit keeps the record of who was let in, and of who was not: one
// line of JSON for each event, in a file that rotates.
//
//	flows, gate --Add--> bounded queue --Run--> file, file.1 ... file.N
//
// It is a stream of its own, apart from the log, which is for finding faults:
// the audit is for finding out, weeks later, who was where. It never makes its
// callers wait, and nobody can fill a disk with it: the file's size, the number
// of old ones and the events a second are bounded, and what was left out is
// counted in the next line, which is made for that where no other comes. What
// strangers do may take a part of the events only, and what an operator does is
// never left out for it. Whatever a stranger may have had a hand in is
// encoded as JSON, so that no control character of his reaches a terminal.
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

	"golang.org/x/time/rate"
)

// A Kind says what an event is about.
type Kind string

// The kinds.
const (
	Start   Kind = "start"   // the gateway admits packets from now on
	Stop    Kind = "stop"    // it no longer does
	Reload  Kind = "reload"  // its configuration was changed
	Knock   Kind = "knock"   // a knock made a grant
	Refused Kind = "refused" // a known client's knock or authentication was refused
	Session Kind = "session" // a flow that had been let in has ended
	Ban     Kind = "ban"     // a source is shut out of the open services
	Unban   Kind = "unban"   // an operator has ended bans
	Revoke  Kind = "revoke"  // an operator has ended something else
	Missing Kind = "missing" // nothing but how many events were left out
)

// whose is who brings about events of a kind.
func (k Kind) whose() actor {
	switch k {
	case Start, Stop, Reload, Unban, Revoke:
		return operators
	case Ban, Refused:
		return strangers
	default:
		return clients
	}
}

// An actor is who brings an event about, which says how many there may be.
type actor uint8

const (
	operators actor = iota // as many as they like: they are few, and hold the socket or the process
	clients
	strangers // a part of what clients may
)

// An Event is one line. Empty fields are left out.
type Event struct {
	Time     time.Time `json:"time"` // when it happened, or ended; set by Add where it is zero
	Kind     Kind      `json:"event"`
	Client   string    `json:"client,omitempty"`   // id
	Source   string    `json:"source,omitempty"`   // address, with the port where there is a connection
	Service  string    `json:"service,omitempty"`  // name
	Upstream string    `json:"upstream,omitempty"` // host:port
	Method   string    `json:"method,omitempty"`   // of a knock, or the format of an authentication
	// Seconds is how long a session was.
	Seconds float64 `json:"seconds,omitempty"`
	// Received and Sent are a session's bytes from its client and to it.
	Received uint64 `json:"received,omitempty"`
	Sent     uint64 `json:"sent,omitempty"`
	Reason   string `json:"reason,omitempty"` // why it was refused, banned or ended; what a reload changed
	Operator string `json:"operator,omitempty"`
	// Until is when a ban ends.
	Until time.Time `json:"until,omitzero"`
	// ClockDifference is the client's clock less ours in seconds, where that is
	// why it was refused.
	ClockDifference float64 `json:"clock_difference,omitempty"`
	// Dropped is how many events before this one are missing.
	Dropped uint64 `json:"dropped,omitempty"`
}

const (
	// DefaultPerSecond is how many events a second are written, and burst for how
	// many seconds' worth a busy moment may be ahead: 250 bytes each, so that the
	// usual files hold the last half an hour of the worst that can be.
	DefaultPerSecond = 200
	burst            = 10
	// strangersPart is how much of that strangers may take, 5 a second: an attacker
	// with many addresses can have each of them banned, whoever has overheard a
	// message can have copies of it refused, and neither is to push the sessions out.
	strangersPart = 40
	// queued is how many events may wait for a slow disk, reserved how many places
	// of these are kept for operators' events.
	queued   = 4096
	reserved = 64
	// missingAfter is how long events that were left out wait for a line that
	// counts them before they get one of their own.
	missingAfter = 10 * time.Second
	// maxText is how much of a text is kept, in bytes. A client id may have 64 KiB.
	maxText = 256
)

// A Log takes events. Its methods are safe for concurrent use.
type Log struct {
	out     io.WriteCloser
	now     func() time.Time
	limit   *rate.Limiter // of clients and strangers
	bans    *rate.Limiter // of strangers, besides
	events  chan Event
	leftOut atomic.Uint64 // since the last line
	lost    atomic.Uint64
	failed  func(error)
	running sync.Mutex // Run's
	failing bool       // since Run has last written; its own
}

// Options are the options of New.
type Options struct {
	PerSecond int              // events; default DefaultPerSecond
	Now       func() time.Time // default time.Now
	// Failed is told of a failure to write, once until a line was written again.
	// It may be nil.
	Failed func(error)
}

// New returns a Log that writes to out, each line in one Write, while Run runs,
// and closes it in the end.
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
		out: out, now: o.Now, limit: limiter(o.PerSecond), bans: limiter(max(1, o.PerSecond/strangersPart)),
		events: make(chan Event, queued), failed: o.Failed,
	}
}

func limiter(perSecond int) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(perSecond), perSecond*burst)
}

// Add takes an event, or counts it as left out. It never waits. A nil Log takes
// nothing.
func (l *Log) Add(e Event) {
	if l == nil {
		return
	}
	if e.Time.IsZero() {
		e.Time = l.now()
	}
	who := e.Kind.whose()
	now := time.Now()
	if who == strangers && !l.bans.AllowN(now, 1) || who != operators && (!l.limit.AllowN(now, 1) || len(l.events) >= queued-reserved) {
		l.leave(1)
		return
	}
	select {
	case l.events <- e:
	default:
		l.leave(1)
	}
}

func (l *Log) leave(n uint64) {
	l.leftOut.Add(n)
	l.lost.Add(n)
}

// Lost is how many events were left out so far, or could not be written.
func (l *Log) Lost() uint64 {
	if l == nil {
		return 0
	}
	return l.lost.Load()
}

// Queued is how many events wait to be written, and how many may.
func (l *Log) Queued() (now, most int) {
	if l == nil {
		return 0, queued
	}
	return len(l.events), queued
}

// Taken is how much of the allowance for a busy moment is used up: events that may
// be written beyond so many a second.
func (l *Log) Taken() (now, most int) {
	if l == nil {
		return 0, DefaultPerSecond * burst
	}
	return l.limit.Burst() - int(l.limit.TokensAt(time.Now())), l.limit.Burst()
}

// Run writes events until ctx ends, then those that wait, and closes the file.
// It returns the first error of writing; it goes on all the same, for a disk may
// have room again.
func (l *Log) Run(ctx context.Context) error {
	l.running.Lock()
	defer l.running.Unlock()
	var first error
	tick := time.NewTicker(missingAfter)
	defer tick.Stop()
	for {
		select {
		case e := <-l.events:
			first = cmp.Or(first, l.write(e))
		case <-tick.C:
			first = cmp.Or(first, l.tell())
		case <-ctx.Done():
			for {
				select {
				case e := <-l.events:
					first = cmp.Or(first, l.write(e))
				default:
					return errors.Join(cmp.Or(first, l.tell()), l.out.Close())
				}
			}
		}
	}
}

// tell writes how many events are missing, if any are.
func (l *Log) tell() error {
	if l.leftOut.Load() == 0 {
		return nil
	}
	return l.write(Event{Time: l.now(), Kind: Missing})
}

// write writes one line.
func (l *Log) write(e Event) error {
	for _, s := range []*string{&e.Client, &e.Source, &e.Service, &e.Upstream, &e.Method, &e.Reason, &e.Operator} {
		if len(*s) > maxText {
			*s = (*s)[:maxText] + "..."
		}
	}
	left := l.leftOut.Swap(0)
	e.Dropped = left
	line, err := json.Marshal(e)
	if err == nil {
		_, err = l.out.Write(append(escaped(line), '\n'))
	}
	if err != nil {
		l.leftOut.Add(left)
		if e.Kind != Missing {
			l.leave(1)
		}
		err = fmt.Errorf("audit: %w", err)
		if !l.failing {
			l.failed(err)
		}
		l.failing = true
		return err
	}
	l.failing = false
	return nil
}

// escaped returns a line of JSON with what JSON allows in a string and a terminal
// may obey escaped: controls like U+009B, and what turns the direction of writing.
func escaped(line []byte) []byte {
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
