// Package loglimit thins out lines of a log that others can bring about: whoever has heard a knock can repeat it a
// thousand times a second, and every copy bears a client's name.
package loglimit

import (
	"sync"
	"time"
)

// PerSecond is how many lines a second Lines let through unless they say otherwise: enough to see what is going on,
// too few to fill a disk.
const PerSecond = 5

// Lines is one kind of line. The zero value is ready; its methods are safe for concurrent use.
type Lines struct {
	PerSecond int // default PerSecond; not to be changed once Take was called

	mu     sync.Mutex
	second time.Time // of the first line let through in it
	lines  int       // let through since then
	left   int       // left out since the last one that was let through
}

// Take tells whether a line may be written, and how many were left out before it.
func (s *Lines) Take(now time.Time) (leftOut int, ok bool) {
	most := s.PerSecond
	if most <= 0 {
		most = PerSecond
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := now.Sub(s.second); d >= time.Second || d < 0 {
		s.second, s.lines = now, 0
	}
	if s.lines >= most {
		s.left++
		return 0, false
	}
	s.lines++
	leftOut, s.left = s.left, 0
	return leftOut, true
}

// With returns the attributes of a line, and how many were left out before it, if any were.
func With(leftOut int, attrs ...any) []any {
	if leftOut > 0 {
		attrs = append(attrs, "left_out", leftOut)
	}
	return attrs
}
