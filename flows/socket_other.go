//go:build !unix

package flows

import "net"

// A tcpSocket is a kernel connection.
type tcpSocket struct{ *net.TCPConn }

func newTCPSocket(c *net.TCPConn) Conn { return &tcpSocket{c} }

// Abort implements Conn.
func (s *tcpSocket) Abort() { abortTCP(s.TCPConn) }
