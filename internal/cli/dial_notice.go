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

// noticeDelay is after how long a command that reaches a service says what it is
// waiting for: a person begins to wonder, and no path takes as long.
const noticeDelay = 3 * time.Second

// dialWithNotice reaches the service, and says on w what it is waiting for where that
// takes long.
func (t *target) dialWithNotice(ctx context.Context, w io.Writer) (net.Conn, error) {
	var connected atomic.Bool
	d := *t.Dialer
	d.Trace = withConnected(t.Trace, func() { connected.Store(true) })

	said := make(chan struct{})
	timer := time.AfterFunc(noticeDelay, func() {
		defer close(said)
		if connected.Load() {
			fmt.Fprintf(w, "knockgw: %s answers; waiting for the gateway to accept the authentication ...\n", t.address)
			return
		}
		fmt.Fprintf(w, "knockgw: no answer from %s yet; trying for up to %v ...\n", t.address, t.Timeout)
	})
	conn, err := d.DialContext(ctx, "tcp", t.address)
	if !timer.Stop() {
		<-said
	}
	return conn, err
}

// withConnected is a trace that calls connected when there is a connection.
func withConnected(trace *client.Trace, connected func()) *client.Trace {
	var also client.Trace
	if trace != nil {
		also = *trace
	}
	tell := also.Connected
	also.Connected = func(a client.Attempt, err error) {
		if err == nil {
			connected()
		}
		if tell != nil {
			tell(a, err)
		}
	}
	return &also
}
