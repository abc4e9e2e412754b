package cli

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/client/relay"
)

// What a connection's end means on which an authentication was accepted, or at least sent, and the service has
// sent nothing: the gateway dials the service only then, and resets the connection if that fails.
var (
	errBehind = errors.New("the gateway let us in and then ended the connection: check that the service behind it runs")
	errEither = errors.New("the gateway ended the connection before anything came from the service: it refused the " +
		"authentication, of which no proof was asked for, or the service behind it does not run")
	errLate = errors.New("the gateway ended the connection, on which the service had sent nothing: it was idle for too " +
		"long (services[].idle on the gateway), access was revoked, the gateway stopped, or the service ended it")
)

// dialTime is how long a gateway may take at most to find that a service does not
// run: the greatest services[].dial_timeout.
const dialTime = time.Minute

// behind is what it means for a dialer that its connection ended before anything came; nil if nothing in
// particular.
func behind(d *client.Dialer) error {
	switch {
	case d.NoAuth:
		return nil // the connection was answered when the service was reached
	case d.Auth.Proof:
		return errBehind
	default:
		return errEither
	}
}

// isReset tells whether the other end broke a connection off, as either way of it says.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// unheard is a connection to a service, whose end before its first byte is an error that says why. An end that
// answers ours is none.
type unheard struct {
	net.Conn
	why         error
	began       time.Time
	heard, said atomic.Bool // a byte came; our end was passed on
}

// hear watches a connection that d has made.
func hear(conn net.Conn, d *client.Dialer) net.Conn {
	if why := behind(d); why != nil {
		return &unheard{Conn: conn, why: why, began: time.Now()}
	}
	return conn
}

// Read reads from the connection.
func (u *unheard) Read(b []byte) (int, error) {
	n, err := u.Conn.Read(b)
	if n > 0 {
		u.heard.Store(true)
	}
	if !u.heard.Load() && (isReset(err) || errors.Is(err, io.EOF) && !u.said.Load()) {
		return n, u.ended()
	}
	return n, err
}

// ended is why the connection has ended.
func (u *unheard) ended() error {
	if time.Since(u.began) > dialTime {
		return errLate
	}
	return u.why
}

// Write writes to the connection, which may find out sooner than Read that it was broken off.
func (u *unheard) Write(b []byte) (int, error) {
	n, err := u.Conn.Write(b)
	if !u.heard.Load() && isReset(err) {
		return n, u.ended()
	}
	return n, err
}

// CloseWrite passes an end on.
func (u *unheard) CloseWrite() error {
	u.said.Store(true)
	if half, ok := u.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// SetLinger is the connection's, for relay.Reset.
func (u *unheard) SetLinger(sec int) error {
	if l, ok := u.Conn.(interface{ SetLinger(sec int) error }); ok {
		return l.SetLinger(sec)
	}
	return errors.ErrUnsupported
}

// unlabelled is an error without what a relay or a transport has put before why the connection ended.
func unlabelled(err error) error {
	for _, why := range []error{errBehind, errEither, errLate} {
		if errors.Is(err, why) {
			return why
		}
	}
	return err
}

// errReset is a connection that was broken off. The kernel moves the bytes, and does not say whose it was.
var errReset = errors.New("the connection was reset, by the program or from behind the gateway")

// broken is why a relayed connection of d's broke off, in words.
func broken(end relay.Result, d *client.Dialer) error {
	if end.Err == nil || !end.Dialled || !isReset(end.Err) {
		return end.Err
	}
	var failure *relay.Error
	why := behind(d)
	switch {
	case end.Stats.Down > 0 || why == nil:
		return errReset
	case end.Elapsed > dialTime:
		return errLate
	case errors.Is(end.Err, syscall.EPIPE) || errors.As(end.Err, &failure) && failure.Side == relay.Service:
		return why // nothing came that could not be written, so it was the reading that failed
	default:
		return fmt.Errorf("%w (unless the program broke off)", why)
	}
}

// settling is how long ping waits after an authentication for the connection to end: on a local network a
// service that is down refuses at once, and from afar within a round trip.
const settling = 300 * time.Millisecond

// stays waits a moment for the end of a connection that d has made, and returns what it means. A service that
// sends something, or nothing, is there.
func stays(conn net.Conn, d *client.Dialer) error {
	why := behind(d)
	if why == nil {
		return nil
	}
	var first [1]byte
	_ = conn.SetReadDeadline(time.Now().Add(settling)) // if it fails, so does Read
	_, err := conn.Read(first[:])
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return why
}
