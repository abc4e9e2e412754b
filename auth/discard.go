package auth

import (
	"context"
	"net"
	"time"
)

// discard is the one end of every failed handshake: it reads and throws away what comes, into buf,
// until the deadline, which is conn's read deadline already. When there is nothing to read any more
// (the peer has closed or reset, or the read deadline has passed) it waits for the rest of the time.
// bounded is false when conn took no deadline: then reading could block for good, and is not tried.
func discard(ctx context.Context, conn net.Conn, buf []byte, deadline time.Time, bounded bool) {
	for bounded {
		// A read that goes on succeeding must not outlive the deadline on a conn that checks it
		// only before it blocks.
		if _, err := conn.Read(buf); err != nil || !time.Now().Before(deadline) {
			break
		}
	}
	left := time.Until(deadline)
	if left <= 0 {
		// No timer that is due at once: in a synctest bubble it would fire on this goroutine while
		// others fire on the bubble's, which crashes the race detector (golang/go#78156).
		return
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// interrupt makes conn's reads and writes fail when ctx ends. stop ends the watch and reports whether
// ctx had not ended; when it returns, interrupt touches conn's deadlines no more.
func interrupt(ctx context.Context, conn net.Conn) (stop func() bool) {
	done := make(chan struct{})
	unregister := context.AfterFunc(ctx, func() {
		defer close(done)
		// A failure leaves the deadline that was set before, which is soon enough.
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
