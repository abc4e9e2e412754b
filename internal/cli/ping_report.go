package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/knockgw/knockgw/client"
)

// dialTrace records the events of one dial.
type dialTrace struct {
	start    time.Time
	resolved time.Duration
	knocked  map[int]time.Duration // since the start, by the number of the attempt
	last     client.Attempt        // last connected, or knocked
	reached  string                // last successful step
	connect  time.Duration         // since the start
	auth     time.Duration         // since the start
}

// hooks returns a trace that records the events.
func (w *dialTrace) hooks() *client.Trace {
	w.knocked = map[int]time.Duration{}
	return &client.Trace{
		Resolved: func([]netip.AddrPort) {
			w.resolved, w.reached = time.Since(w.start), client.StepResolve
		},
		Knocked: func(a client.Attempt, err error) {
			if w.last = a; err == nil {
				w.knocked[a.Number], w.reached = a.Elapsed, client.StepKnock
			}
		},
		Connected: func(a client.Attempt, err error) {
			if w.last = a; err == nil {
				w.connect, w.reached = a.Elapsed, client.StepConnect
			}
		},
		Authenticated: func(a client.Attempt, err error) {
			if err == nil {
				w.auth, w.reached = a.Elapsed, client.StepAuthenticate
			}
		},
	}
}

// pingAttempt is the result of one attempt. The durations of steps that failed
// or were not necessary are absent.
type pingAttempt struct {
	Number       int     `json:"number"`
	OK           bool    `json:"ok"`
	Step         string  `json:"failed_step,omitempty"`
	Error        string  `json:"error,omitempty"`
	Remote       string  `json:"remote,omitempty"` // address of the last dial
	Dials        int     `json:"dials,omitempty"`  // more than one if packets were lost
	Resolve      seconds `json:"resolve_seconds,omitempty"`
	Knock        seconds `json:"knock_seconds,omitempty"`
	Connect      seconds `json:"connect_seconds,omitempty"`
	Authenticate seconds `json:"authenticate_seconds,omitempty"`
	Total        seconds `json:"total_seconds"`
}

// seconds is a duration as it is printed.
type seconds float64

// inSeconds rounds a duration to microseconds, the precision of the measurement.
func inSeconds(t time.Duration) seconds { return seconds(t.Round(time.Microsecond).Seconds()) }

// String returns milliseconds, with two or more significant digits.
func (s seconds) String() string {
	const perSecond, few = 1000, 10
	if ms := float64(s) * perSecond; ms < few {
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", float64(s)*perSecond)
}

// result returns the result of the dial.
func (w *dialTrace) result(number int, total time.Duration) pingAttempt {
	a := pingAttempt{Number: number, Total: inSeconds(total), Dials: w.last.Number}
	if w.reached == "" {
		return a
	}
	a.Resolve = inSeconds(w.resolved)
	if w.last.Target.IsValid() {
		a.Remote = w.last.Target.String()
	}
	knock, knocked := w.knocked[w.last.Number]
	if knocked {
		a.Knock = inSeconds(knock)
	}
	if w.connect > 0 {
		a.Connect = inSeconds(w.connect - knock)
	}
	if w.auth > 0 {
		a.Authenticate = inSeconds(w.auth - w.connect)
	}
	return a
}

// String returns the result as a line of text.
func (a pingAttempt) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d: ", a.Number)
	if !a.OK {
		fmt.Fprintf(&b, "failed after %v: %s", a.Total, a.Error)
		return b.String()
	}
	for _, step := range []struct {
		name string
		took seconds
	}{
		{client.StepResolve, a.Resolve}, {client.StepKnock, a.Knock},
		{client.StepConnect, a.Connect}, {client.StepAuthenticate, a.Authenticate},
	} {
		if step.took > 0 {
			fmt.Fprintf(&b, "%s %v, ", step.name, step.took)
		}
	}
	fmt.Fprintf(&b, "total %v", a.Total)
	if a.Dials > 1 {
		fmt.Fprintf(&b, " (%d attempts: packets were lost, or the gateway is slow)", a.Dials)
	}
	return b.String()
}

// pingReport is the result of all attempts.
type pingReport struct {
	Target    string        `json:"target"`
	Address   string        `json:"address"`
	Attempts  []pingAttempt `json:"attempts"`
	Succeeded int           `json:"succeeded"`
	Min       seconds       `json:"min_seconds,omitempty"` // of the successful attempts
	Median    seconds       `json:"median_seconds,omitempty"`
	Max       seconds       `json:"max_seconds,omitempty"`
}

// precision is the number of distinguished parts of a second.
const precision = 1e6

// sum computes the totals of the attempts.
func (r *pingReport) sum() {
	var took []seconds
	for _, a := range r.Attempts {
		if a.OK {
			took = append(took, a.Total)
		}
	}
	if r.Succeeded = len(took); r.Succeeded == 0 {
		return
	}
	slices.Sort(took)
	r.Min, r.Max = took[0], took[len(took)-1]
	r.Median = seconds(math.Round(float64(took[(len(took)-1)/2]+took[len(took)/2])/2*precision) / precision)
}

// summary returns the last line of text.
func (r *pingReport) summary() string {
	text := fmt.Sprintf("%d of %d succeeded", r.Succeeded, len(r.Attempts))
	if r.Succeeded > 1 { // of one, its line has the duration
		text += fmt.Sprintf("; min %v, median %v, max %v", r.Min, r.Median, r.Max)
	}
	return text
}

// write writes the report as JSON.
func (r *pingReport) write(out io.Writer) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(r)
}
