package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/knockgw/knockgw/client"
)

// noticeDelay is the time after which a command that connects to a service
// prints what it is waiting for: users begin to wonder, and no network path
// takes as long.
const noticeDelay = 3 * time.Second

// dialWithNotice connects to the service, and prints on w what it is waiting
// for if that takes long.
func (t *target) dialWithNotice(ctx context.Context, w io.Writer) (net.Conn, error) {
	var connected atomic.Bool
	d := *t.Dialer
	d.Trace = withConnected(t.Trace, func() { connected.Store(true) })

	notified := make(chan struct{})
	timer := time.AfterFunc(noticeDelay, func() {
		defer close(notified)
		if connected.Load() {
			fmt.Fprintf(w, "knockgw: connected to %s; waiting for the gateway to accept the authentication ...\n", t.address)
			return
		}
		fmt.Fprintf(w, "knockgw: no answer from %s yet; trying for up to %v ...\n", t.address, t.Timeout)
	})
	conn, err := d.DialContext(ctx, "tcp", t.address)
	if !timer.Stop() {
		<-notified
	}
	return conn, err
}

// withConnected returns a trace that also calls connected when a connection is
// established.
func withConnected(trace *client.Trace, connected func()) *client.Trace {
	var t client.Trace
	if trace != nil {
		t = *trace
	}
	next := t.Connected
	t.Connected = func(a client.Attempt, err error) {
		if err == nil {
			connected()
		}
		if next != nil {
			next(a, err)
		}
	}
	return &t
}
