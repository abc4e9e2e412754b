package gateway

import (
	"sync"
	"time"
)

// samples is how many lines a second a sample lets through: enough to see what is
// going on, too few to fill a disk.
const samples = 5

// sample thins out lines that strangers can bring about: whoever has heard a knock
// can repeat it a thousand times a second, and every copy bears a client's name.
type sample struct {
	mu     sync.Mutex
	second time.Time // of the first line let through in it
	lines  int       // let through since then
	left   int       // left out since the last one that was let through
}

// take tells whether a line may be written, and how many were left out before it.
func (s *sample) take(now time.Time) (leftOut int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := now.Sub(s.second); d >= time.Second || d < 0 {
		s.second, s.lines = now, 0
	}
	if s.lines >= samples {
		s.left++
		return 0, false
	}
	s.lines++
	leftOut, s.left = s.left, 0
	return leftOut, true
}
