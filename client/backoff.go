package client

import "time"

// When attempts start. TestDialWithLoss prints the figures by which these values
// were chosen.
const (
	// attemptDelay is the head start that an address has before the next one
	// that was not tried yet: the Connection Attempt Delay of RFC 8305, section
	// 5.
	attemptDelay = 250 * time.Millisecond

	// initialBackoff is the time before the second knock at an address: a round
	// trip to the other side of the world, and half of the second after which
	// the kernel repeats a SYN.
	initialBackoff = 500 * time.Millisecond

	// maxBackoff limits the time between two attempts at an address. The
	// backoff is for paths that are slow or congested, not for the gateway: a
	// packet that it drops costs it little.
	maxBackoff = 2 * time.Second

	// minInterval is the least time between two attempts, however many addresses
	// share the time: the minimum of RFC 8305, section 5.
	minInterval = 100 * time.Millisecond

	// maxInFlight limits the concurrent attempts. More would only add older
	// ones, whose SYNs the kernel repeats at ever longer intervals: with the
	// backoff above, the oldest is a quarter of a minute old. Each may cost a
	// grant at the gateway, which keeps 256 for a client, and a connection that
	// is half open.
	maxInFlight = 10
)

// backoff returns the time between the given attempt at an address, counted from
// 1, and the next one: 1.5 times the previous value, up to maxBackoff.
func backoff(attempts int) time.Duration {
	wait := initialBackoff
	for range attempts - 1 {
		if wait += wait / 2; wait >= maxBackoff {
			return maxBackoff
		}
	}
	return wait
}
