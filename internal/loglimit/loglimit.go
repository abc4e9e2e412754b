// Package loglimit limits the rate of log lines that a remote host can cause: a
// captured knock can be replayed a thousand times a second, and each copy would
// be logged with the client's name.
package loglimit

import (
	"sync"
	"time"
)

// PerSecond is the default of [Limiter.PerSecond]: enough lines to follow what
// happens, too few to fill a disk.
const PerSecond = 5

// Limiter limits one kind of log line. The zero value is ready to use. Its
// methods are safe for concurrent use.
type Limiter struct {
	PerSecond int // 0 means the constant PerSecond; must not change after the first Allow

	mu         sync.Mutex
	start      time.Time // of the current second: when its first line was allowed
	lines      int       // allowed since then
	suppressed int       // since the last allowed line
}

// Allow reports whether a line may be logged at now, and how many lines were
// suppressed since the last one that was.
func (l *Limiter) Allow(now time.Time) (suppressed int, ok bool) {
	limit := l.PerSecond
	if limit <= 0 {
		limit = PerSecond
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if d := now.Sub(l.start); d >= time.Second || d < 0 {
		l.start, l.lines = now, 0
	}
	if l.lines >= limit {
		l.suppressed++
		return 0, false
	}
	l.lines++
	suppressed, l.suppressed = l.suppressed, 0
	return suppressed, true
}

// Attrs appends the number of suppressed lines to the attributes of a line, if
// there were any.
func Attrs(suppressed int, attrs ...any) []any {
	if suppressed > 0 {
		attrs = append(attrs, "suppressed", suppressed)
	}
	return attrs
}
