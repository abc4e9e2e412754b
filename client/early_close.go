package client

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/knockgw/knockgw/internal/netx"
)

// maxUpstreamDial is how long a gateway may take to find that a service is down:
// the greatest value of services[].dial_timeout.
const maxUpstreamDial = time.Minute

// EarlyCloseError reports that the gateway closed a connection after the
// authentication and before the service sent its first byte. A gateway dials the
// service only after it has accepted the authentication, and closes the client's
// connection if that fails: the service is most likely down.
type EarlyCloseError struct {
	// Proven is true if a server proof was verified: the gateway had accepted
	// the authentication. Else it may have refused it.
	Proven bool
	// Late is true if the connection had been open for longer than a gateway
	// tries to reach the service: the connection was idle for too long, access
	// was revoked, or the gateway or the service ended it.
	Late bool
	// Err is the error of the connection; io.ErrUnexpectedEOF if it ended
	// without a reset.
	Err error
}

// Error returns what the close means and what to check.
func (e *EarlyCloseError) Error() string {
	switch {
	case e.Late:
		return "the gateway closed the connection before the service sent anything: it was idle for too long " +
			"(services[].idle on the gateway), access was revoked, the gateway stopped, or the service closed it"
	case e.Proven:
		return "the gateway accepted the authentication and then closed the connection; check that the service behind it runs"
	default:
		return "the gateway closed the connection before the service sent anything: it refused the authentication, " +
			"for which no proof was requested, or the service behind it is down"
	}
}

// Unwrap returns the error of the connection.
func (e *EarlyCloseError) Unwrap() error { return e.Err }

// EarlyClose returns the error for a connection of d that ended with cause, age
// after it was established and before the service sent a byte. It returns nil
// with NoAuth, since such a connection is answered only when the service was
// reached.
func (d *Dialer) EarlyClose(age time.Duration, cause error) *EarlyCloseError {
	if d.NoAuth {
		return nil
	}
	if errors.Is(cause, io.EOF) {
		cause = io.ErrUnexpectedEOF
	}
	return &EarlyCloseError{Proven: d.Auth.Proof, Late: age > maxUpstreamDial, Err: cause}
}

// DetectEarlyClose wraps conn, a connection that d has just made: if the gateway
// closes it before the service sends a byte, Read and Write return an
// [*EarlyCloseError]. An end of stream that follows the caller's own CloseWrite
// is not an error. With NoAuth, DetectEarlyClose returns conn itself.
func (d *Dialer) DetectEarlyClose(conn net.Conn) net.Conn {
	if d.NoAuth {
		return conn
	}
	return &earlyCloseConn{Conn: conn, dialer: d, start: time.Now()}
}

// earlyCloseConn is a connection that detects an early close.
type earlyCloseConn struct {
	net.Conn
	dialer   *Dialer
	start    time.Time
	received atomic.Bool // the service has sent a byte
	ended    atomic.Bool // the caller has ended its stream
}

// Read reads from the connection.
func (c *earlyCloseConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.received.Store(true)
	}
	if !c.received.Load() && (isReset(err) || errors.Is(err, io.EOF) && !c.ended.Load()) {
		return n, c.dialer.EarlyClose(time.Since(c.start), err)
	}
	return n, err
}

// Write writes to the connection. It may detect a reset before Read does.
func (c *earlyCloseConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if !c.received.Load() && isReset(err) {
		return n, c.dialer.EarlyClose(time.Since(c.start), err)
	}
	return n, err
}

// CloseWrite ends the caller's stream.
func (c *earlyCloseConn) CloseWrite() error {
	c.ended.Store(true)
	return netx.CloseWrite(c.Conn)
}

// SetLinger sets what Close does with unsent data, as a net.TCPConn's.
func (c *earlyCloseConn) SetLinger(sec int) error {
	return netx.SetLinger(c.Conn, sec)
}

// isReset reports whether the peer reset the connection, as a read (ECONNRESET)
// or a write (EPIPE) finds it.
func isReset(err error) bool {
	return errors.Is(err, connectionReset) || errors.Is(err, syscall.EPIPE)
}
