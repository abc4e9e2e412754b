// Package testclock has the clocks of tests: a wall clock and a monotonic clock
// that only the test moves.
package testclock

import (
	"sync"
	"time"
)

// Clocks are a wall clock and a monotonic clock. They are safe for concurrent
// use.
type Clocks struct {
	mu   sync.Mutex
	wall time.Time
	mono time.Duration
}

// New returns clocks that show an arbitrary, fixed time.
func New() *Clocks {
	return &Clocks{wall: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
}

// Now returns the time of the wall clock.
func (c *Clocks) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wall
}

// Mono returns the time of the monotonic clock.
func (c *Clocks) Mono() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mono
}

// Advance moves both clocks.
func (c *Clocks) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall, c.mono = c.wall.Add(d), c.mono+d
}

// StepWall moves the wall clock only.
func (c *Clocks) StepWall(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall = c.wall.Add(d)
}
