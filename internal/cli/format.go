package cli

import (
	"fmt"
	"time"

	"github.com/knockgw/knockgw/internal/buildinfo"
)

// inDuration is a time in seconds as one to the millisecond.
func inDuration(seconds float64) time.Duration {
	return time.Duration(seconds * float64(time.Second)).Round(time.Millisecond)
}

// staleResult is what knocks and authentications have in common whose time is off.
const staleResult = "stale"

// quantity is a number of things that have an ordinary plural: 1 flow, 2 flows.
func quantity(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// lasting is a time in seconds for people.
func lasting(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	if d < time.Minute {
		return d.Round(time.Second / 10).String()
	}
	return d.Round(time.Second).String()
}

// when is a moment for people, in the time of this host.
func when(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

// skewText says how far the other's clock is off.
func skewText(ahead time.Duration) string {
	if ahead < 0 {
		return fmt.Sprintf("the client's clock is %v behind ours", (-ahead).Round(time.Millisecond))
	}
	return fmt.Sprintf("the client's clock is %v ahead of ours", ahead.Round(time.Millisecond))
}

// versionText is a build on one line.
func versionText(b buildinfo.Info) string {
	text := b.Version
	switch {
	case b.Commit != "" && b.Dirty:
		text += fmt.Sprintf(" (commit %.12s, changed since)", b.Commit)
	case b.Commit != "":
		text += fmt.Sprintf(" (commit %.12s)", b.Commit)
	}
	return text + " " + b.Go
}
