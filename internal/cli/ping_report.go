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

// dialTrace is what a Trace tells about one dial.
type dialTrace struct {
	start    time.Time
	resolved time.Duration
	knocked  map[int]time.Duration // since the attempt began, by its number
	last     client.Attempt        // that was connected, or knocked if none was
	reached  string                // the last step that worked
	connect  time.Duration         // since the attempt began
	auth     time.Duration         // since the attempt began
}

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

// pingAttempt is how one attempt went. The times of steps that did not work, or were not needed, are absent.
type pingAttempt struct {
	Number       int     `json:"number"`
	OK           bool    `json:"ok"`
	Step         string  `json:"failed_step,omitempty"`
	Error        string  `json:"error,omitempty"`
	Remote       string  `json:"remote,omitempty"` // the address that was tried last
	Dials        int     `json:"dials,omitempty"`  // how many it took: packets get lost
	Resolve      seconds `json:"resolve_seconds,omitempty"`
	Knock        seconds `json:"knock_seconds,omitempty"`
	Connect      seconds `json:"connect_seconds,omitempty"`
	Authenticate seconds `json:"authenticate_seconds,omitempty"`
	Total        seconds `json:"total_seconds"`
}

// seconds is a time as it is printed.
type seconds float64

// inSeconds is a time to the microsecond: nobody measures better.
func inSeconds(t time.Duration) seconds { return seconds(t.Round(time.Microsecond).Seconds()) }

// String is in milliseconds, with as many digits as anybody reads.
func (s seconds) String() string {
	const inOne, few = 1000, 10
	if ms := float64(s) * inOne; ms < few {
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", float64(s)*inOne)
}

// result is what w has seen.
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

// String is a line of text.
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
	fmt.Fprintf(&b, "all %v", a.Total)
	if a.Dials > 1 {
		fmt.Fprintf(&b, " (%d tries: packets were lost, or the gateway is slow)", a.Dials)
	}
	return b.String()
}

// pingReport is what all attempts came to.
type pingReport struct {
	Target    string        `json:"target"`
	Address   string        `json:"address"`
	Attempts  []pingAttempt `json:"attempts"`
	Succeeded int           `json:"succeeded"`
	Min       seconds       `json:"min_seconds,omitempty"` // of the attempts that worked
	Median    seconds       `json:"median_seconds,omitempty"`
	Max       seconds       `json:"max_seconds,omitempty"`
}

// precision is how many parts of a second are told apart.
const precision = 1e6

// sum fills in what follows from the attempts.
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

// summary is the last line of text.
func (r *pingReport) summary() string {
	text := fmt.Sprintf("%d of %d worked", r.Succeeded, len(r.Attempts))
	if r.Succeeded > 1 { // of one, its line has said it
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
