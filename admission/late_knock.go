package admission

import (
	"context"
	"errors"
	"time"

	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// A client knocks before it connects, but its connection may overtake the
// knock: this file has the times for which a connection waits for one. A SYN
// that arrives while knocks of its source are queued is deferred (defer.go).

const (
	// pendingKnockTimeout is how long Authenticate waits for knocks of the
	// flow's source that were queued before it: the time that a SYN may be
	// deferred.
	pendingKnockTimeout = time.Second

	// minPoll is the time until AuthenticateWithWait looks for a grant again; it
	// doubles after each attempt, up to maxPoll, whatever other clients knock.
	minPoll = time.Millisecond
	maxPoll = 25 * time.Millisecond
)

// reorderGrace is how long a connection waits for a grant to come. A client
// sends its knock first, but the two take different paths: the network may
// reorder them, and the host's stack may have accepted the connection before
// the knock was read. A SYN that is dropped comes again after a second; a
// connection that is reset does not. The time is more than networks reorder
// packets by, and short enough to hold an unauthorized host for.
const reorderGrace = 250 * time.Millisecond

// AuthenticateWithWait is Authenticate for a client that may knock again. A
// knock may arrive after the connection that it is for: the network has
// reordered them, it has not been read yet, or it was lost and its client sends
// another. A source with unused grants of other clients is admitted without the
// flow's own knock, if that was lost; so where no grant fits, it waits for one
// until an eighth of the service's AuthDeadline is left. A client that fails
// fails at the deadline, and cannot tell the difference. It ends with ctx, too,
// and when the flow is gone.
func (g *Gate) AuthenticateWithWait(ctx context.Context, t packet.Tuple, client *protocol.Client, session string, claim func() error) (err error) {
	var wait time.Duration
	g.mu.Lock()
	if f := g.flows.byTuple[t]; f != nil {
		wait = f.knockWait(g.mono())
	}
	g.mu.Unlock()
	pollUntil(ctx, func() time.Duration {
		if err = g.Authenticate(t, client, session, claim); errors.Is(err, ErrNoGrant) {
			return wait
		}
		return 0
	})
	return err
}

// knockWait is for how long from now the flow's authentication may wait for a
// knock.
func (f *flow) knockWait(now time.Duration) time.Duration {
	const left = 8 // one part in so many of the deadline
	deadline := f.service.service.AuthDeadline
	return f.establishedAt + deadline - deadline/left - now
}

// pollUntil calls poll repeatedly, until it returns 0, until the time that it
// returns has passed since the first call, or until ctx ends.
func pollUntil(ctx context.Context, poll func() (wait time.Duration)) {
	start := time.Now()
	for pause := minPoll; ; pause = min(2*pause, maxPoll) {
		left := poll() - time.Since(start)
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
