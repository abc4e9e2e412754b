package cli

import (
	"fmt"
	"time"

	"github.com/knockgw/knockgw/internal/buildinfo"
)

// duration returns a number of seconds as a time.Duration, rounded to
// milliseconds.
func duration(seconds float64) time.Duration {
	return time.Duration(seconds * float64(time.Second)).Round(time.Millisecond)
}

// staleResult is the result of knocks and authentications with a wrong time.
const staleResult = "stale"

// pluralize returns a number of things with a regular plural: 1 flow, 2 flows.
func pluralize(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// formatSeconds formats a number of seconds.
func formatSeconds(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	if d < time.Minute {
		return d.Round(time.Second / 10).String()
	}
	return d.Round(time.Second).String()
}

// formatTime formats a time in the time zone of this host.
func formatTime(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

// describeSkew describes the difference between a client's clock and the
// gateway's.
func describeSkew(ahead time.Duration) string {
	if ahead < 0 {
		return fmt.Sprintf("the client's clock is %v behind the gateway's", (-ahead).Round(time.Millisecond))
	}
	return fmt.Sprintf("the client's clock is %v ahead of the gateway's", ahead.Round(time.Millisecond))
}

// versionText describes a build on one line.
func versionText(b buildinfo.Info) string {
	text := b.Version
	switch {
	case b.Commit != "" && b.Dirty:
		text += fmt.Sprintf(" (commit %.12s, modified)", b.Commit)
	case b.Commit != "":
		text += fmt.Sprintf(" (commit %.12s)", b.Commit)
	}
	return text + " " + b.Go
}
