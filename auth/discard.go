package auth

import (
	"context"
	"net"
	"time"
)

// discard ends every failed handshake: it reads into buf and discards the input
// until the deadline, which is conn's read deadline already. When there is
// nothing to read any more (the peer has closed or reset, or the read deadline
// has passed) it waits for the rest of the time. bounded is false if conn
// accepted no deadline: reading could block forever then, and is not tried.
func discard(ctx context.Context, conn net.Conn, buf []byte, deadline time.Time, bounded bool) {
	for bounded {
		// Successful reads must not continue beyond the deadline on a conn that
		// checks it only before it blocks.
		if _, err := conn.Read(buf); err != nil || !time.Now().Before(deadline) {
			break
		}
	}
	left := time.Until(deadline)
	if left <= 0 {
		// No timer that is due at once: in a synctest bubble it would fire on
		// this goroutine while others fire on the bubble's, which crashes the
		// race detector (golang/go#78156).
		return
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// interrupt makes conn's reads and writes fail when ctx ends. stop ends that and
// reports whether ctx had not ended; after it, conn's deadlines are not changed
// any more.
func interrupt(ctx context.Context, conn net.Conn) (stop func() bool) {
	done := make(chan struct{})
	unregister := context.AfterFunc(ctx, func() {
		defer close(done)
		// On failure the previous deadline remains, which is soon enough.
		_ = conn.SetDeadline(time.Unix(1, 0)) // any time in the past
	})
	return func() bool {
		if unregister() {
			return true
		}
		<-done
		return false
	}
}
