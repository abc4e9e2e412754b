// Package netx has the operations of a TCP connection that net.Conn lacks and
// wrappers of connections pass on.
package netx

import (
	"errors"
	"net"
)

// CloseWrite ends the sending direction of c, as that of a net.TCPConn. It
// returns errors.ErrUnsupported if c cannot end one direction alone.
func CloseWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// SetLinger sets what Close does with unsent data, as that of a net.TCPConn: 0
// resets the connection. It returns errors.ErrUnsupported if c has no such
// option.
func SetLinger(c net.Conn, sec int) error {
	if l, ok := c.(interface{ SetLinger(sec int) error }); ok {
		return l.SetLinger(sec)
	}
	return errors.ErrUnsupported
}
