package client

import "time"

// When attempts begin. TestMostDialsSucceedInTenSecondsWhereAFifthIsLost has the
// figures that these were chosen by.
const (
	// nextAddress is the lead that an address has before one that was not tried
	// yet: the Connection Attempt Delay of RFC 8305, section 5.
	nextAddress = 250 * time.Millisecond

	// firstRetry is what an address is given before the second knock: a round trip
	// to the other side of the world, and half of the second after which the kernel
	// repeats a SYN.
	firstRetry = 500 * time.Millisecond

	// lastRetry is what it is given in the end. Retries slow down for the sake of
	// paths that are slow or choked, not of the gate: what it drops costs it little.
	lastRetry = 2 * time.Second

	// leastRetry is the least between two attempts, however many addresses share
	// the time: the minimum of RFC 8305, section 5.
	leastRetry = 100 * time.Millisecond

	// mostFlying is how many attempts go on at once. More would only be older ones,
	// whose SYNs the kernel repeats at ever longer intervals: with the retries above
	// the oldest of them is a quarter of a minute old. Each may be a grant at the
	// gateway, of which it keeps 256 for a client, and a connection half open.
	mostFlying = 10
)

// retryAfter is how long an address is left alone after the given number of
// attempts at it, from 1: half as long again each time.
func retryAfter(attempts int) time.Duration {
	wait := firstRetry
	for range attempts - 1 {
		if wait += wait / 2; wait >= lastRetry {
			return lastRetry
		}
	}
	return wait
}
