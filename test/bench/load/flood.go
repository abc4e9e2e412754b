//go:build linux

package load

import (
	"fmt"
	"io"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/knockgw/knockgw/test/netns/lab"
)

// Flood sends junk as fast as it can until it is asked to end. It says Ready
// when it begins.
//
// It stays on the last processor: attackers have machines of their own, and a
// flood that the scheduler moves about disturbs now this process and now that
// one. What the kernel does to carry its packets is done there too.
type Flood struct {
	Junk lab.Junk
}

// Flooded is how much was sent.
type Flooded struct {
	Packets int
	Took    time.Duration
}

// Rate is packets a second.
func (f Flooded) Rate() float64 { return float64(f.Packets) / f.Took.Seconds() }

// Run implements Task; the result is a Flooded.
func (f *Flood) Run(out io.Writer) (any, error) {
	ctx, stop := untilAsked()
	defer stop()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var last unix.CPUSet
	last.Set(runtime.NumCPU() - 1)
	if err := unix.SchedSetaffinity(0, &last); err != nil {
		return nil, fmt.Errorf("stay on one processor: %w", err)
	}
	if _, err := fmt.Fprintln(out, Ready); err != nil {
		return nil, err
	}
	began := time.Now()
	sent, err := lab.Flood(ctx, f.Junk, 0)
	return Flooded{sent, time.Since(began)}, err
}
