package admission

import (
	"context"
	"errors"
	"time"

	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// A knock may come after what it is for: the network has turned them round, nobody
// has read it yet, or it was lost and its client sends another. Whoever has proved
// to be a client is therefore given some time for it.

const (
	// minPoll is after how long who waits looks for a grant again; after each look
	// twice as long, up to lastLook, whatever others knock meanwhile.
	minPoll = time.Millisecond
	maxPoll = 25 * time.Millisecond
)

// AuthenticateWithWait is Authenticate for a client that may knock again. A source with
// grants that others have left over gets in without the knock that is the flow's
// own, if that was lost; so where no grant fits it waits for one, until an eighth of
// the service's AuthDeadline is left. Whoever fails fails at the deadline, and does
// not see the difference. It ends with ctx, too, and when the flow is gone.
func (g *Gate) AuthenticateWithWait(ctx context.Context, t packet.Tuple, client *protocol.Client, session string, claim func() error) (err error) {
	patience := g.knockWait(t)
	g.pollUntil(ctx, func() time.Duration {
		if err = g.Authenticate(t, client, session, claim); errors.Is(err, ErrNoGrant) {
			return patience
		}
		return 0
	})
	return err
}

// knockWait is for how long from now a flow's authentication may wait for a knock.
func (g *Gate) knockWait(t packet.Tuple) time.Duration {
	const left = 8 // one part in so many of the deadline
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.flows[t]
	if f == nil {
		return 0
	}
	deadline := f.service.service.AuthDeadline
	return f.establishedAt + deadline - deadline/left - g.mono()
}

// pollUntil calls look again and again, until it says 0, until the time is over
// for which it says that it is worth waiting in all, or until ctx ends.
func (g *Gate) pollUntil(ctx context.Context, look func() (wait time.Duration)) {
	start := time.Now()
	for pause := minPoll; ; pause = min(2*pause, maxPoll) {
		left := look() - time.Since(start)
		if left <= 0 {
			return
		}
		timer := time.NewTimer(min(pause, left))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}
