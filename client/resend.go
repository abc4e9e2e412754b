package client

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/knockgw/knockgw/protocol"
)

// Knocks during an authentication, for a gateway that waits for the knock of its
// session: after 0.3, 0.75, 1.4 and 2.4 s.
const (
	// resendInterval is the time before the first of them; each further
	// interval is 1.5 times the previous one. If the path answers within it, no
	// knock is sent; if the path is slower, the knock costs a grant that
	// expires.
	resendInterval = 300 * time.Millisecond

	// maxResends is the number of knocks that have time to arrive before the
	// gateway's auth.DefaultDeadline.
	maxResends = 4
)

// resendKnocks repeats the knock of session until stop is called, from the
// address of conn to target. It is for a connection that was admitted by the
// grant of an earlier knock while its own knock was lost. stop waits for the
// goroutine to end. Trace is not called for these knocks: the result of the
// authentication shows their effect.
func (d *Dialer) resendKnocks(ctx context.Context, conn net.Conn, target netip.AddrPort, session []byte) (stop func()) {
	if !d.Auth.Proof || !d.knockHasSession() {
		return func() {}
	}

	from := *d
	if local, ok := conn.LocalAddr().(*net.TCPAddr); ok {
		from.Net.LocalAddr = local
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		wait := resendInterval
		for range maxResends {
			if sleep(ctx, wait) != nil {
				return
			}
			_ = from.Knock(ctx, target, session) // as if lost; the next one may succeed
			wait += wait / 2
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// knockHasSession reports whether d's knocks carry the session id of the
// authentication that follows.
func (d *Dialer) knockHasSession() bool {
	if d.NoKnock {
		return false
	}
	switch method, _ := protocol.ParseMethod(d.Method); method {
	case protocol.MethodTCPSYN, protocol.MethodTCPSYNSeq, protocol.MethodTCPAuth:
		return false
	default:
		return true
	}
}
