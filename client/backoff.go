package client

import "time"

// When attempts begin. TestDialWithLoss has the
// figures that these were chosen by.
const (
	// attemptDelay is the lead that an address has before one that was not tried
	// yet: the Connection Attempt Delay of RFC 8305, section 5.
	attemptDelay = 250 * time.Millisecond

	// initialBackoff is what an address is given before the second knock: a round trip
	// to the other side of the world, and half of the second after which the kernel
	// repeats a SYN.
	initialBackoff = 500 * time.Millisecond

	// maxBackoff is what it is given in the end. Retries slow down for the sake of
	// paths that are slow or choked, not of the gate: what it drops costs it little.
	maxBackoff = 2 * time.Second

	// minInterval is the least between two attempts, however many addresses share
	// the time: the minimum of RFC 8305, section 5.
	minInterval = 100 * time.Millisecond

	// maxInFlight is how many attempts go on at once. More would only be older ones,
	// whose SYNs the kernel repeats at ever longer intervals: with the retries above
	// the oldest of them is a quarter of a minute old. Each may be a grant at the
	// gateway, of which it keeps 256 for a client, and a connection half open.
	maxInFlight = 10
)

// backoff is how long an address is left alone after the given number of
// attempts at it, from 1: half as long again each time.
func backoff(attempts int) time.Duration {
	wait := initialBackoff
	for range attempts - 1 {
		if wait += wait / 2; wait >= maxBackoff {
			return maxBackoff
		}
	}
	return wait
}
