package cli

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/client/relay"
)

// errReset is a connection that was reset. The kernel moves the bytes and does
// not report which side sent the reset.
var errReset = errors.New("connection reset by the program or by the gateway")

// withoutContext returns the *client.EarlyCloseError in err, which is complete
// without the text that a relay or transport puts before it; otherwise err.
func withoutContext(err error) error {
	var early *client.EarlyCloseError
	if errors.As(err, &early) {
		return early
	}
	return err
}

// relayError returns why a relayed connection of d failed, nil if it did not.
func relayError(r relay.Result, d *client.Dialer) error {
	isPipe := errors.Is(r.Err, syscall.EPIPE)
	if !r.Dialled || !isPipe && !errors.Is(r.Err, syscall.ECONNRESET) {
		return r.Err
	}

	early := d.EarlyClose(r.Elapsed, r.Err)
	if r.Stats.Down > 0 || early == nil {
		return errReset
	}
	// With no byte from the service, the relay has written nothing to the
	// program: a broken pipe is the gateway's, and so is a failure in copying
	// from there.
	var failure *relay.Error
	fromService := errors.As(r.Err, &failure) && failure.Side == relay.Service
	if early.Late || isPipe || fromService {
		return early
	}
	return fmt.Errorf("%w (unless the program reset it)", early)
}

// probeTime is how long ping waits for a close after the authentication: on a
// local network the upstream of a service that is down refuses at once, and
// over a long path within a round trip.
const probeTime = 300 * time.Millisecond

// probeEarlyClose waits up to probeTime for the gateway to close a connection
// that d has made, and returns what that means. It returns nil if the service
// sends something, or nothing at all.
func probeEarlyClose(conn net.Conn, d *client.Dialer) error {
	if d.NoAuth {
		return nil
	}
	var first [1]byte
	_ = conn.SetReadDeadline(time.Now().Add(probeTime)) // if it fails, so does Read
	_, err := conn.Read(first[:])
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return d.EarlyClose(0, err)
}
