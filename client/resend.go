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
	// resendInterval is when the first of them is sent, each of the others half as long
	// again after the one before. On a path that answers within it, none is; on one
	// that is longer, it costs a grant that runs out.
	resendInterval = 300 * time.Millisecond

	// maxResends is how many are sent at the most: as many as have time to arrive
	// before a gateway's auth.DefaultDeadline is over.
	maxResends = 4
)

// resendKnocks knocks with session until stop is called, which waits for the end of
// it: from where conn comes, and for where it goes. That is for a connection that
// was let in by what an earlier one left at the gateway, while the knock of its own
// was lost. Nobody is told of these knocks; the authentication shows what they
// were good for.
func (d *Dialer) resendKnocks(ctx context.Context, conn net.Conn, target netip.AddrPort, session []byte) (stop func()) {
	if !d.Auth.Proof || !d.knockHasSession() {
		return func() {}
	}
	from := *d
	if local, ok := conn.LocalAddr().(*net.TCPAddr); ok {
		from.Net.LocalAddr = local
	}
	ctx, cancel := context.WithCancel(ctx)
	var knocking sync.WaitGroup
	knocking.Go(func() {
		wait := resendInterval
		for range maxResends {
			if sleep(ctx, wait) != nil {
				return
			}
			_ = from.Knock(ctx, target, session) // as good as lost; the next one may not be
			wait += wait / 2
		}
	})
	return func() {
		cancel()
		knocking.Wait()
	}
}

// knockHasSession tells whether d's knocks say whose authentication they are for.
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
