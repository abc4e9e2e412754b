//go:build linux

package load

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
)

// Echo is a server that sends back whatever it is sent, until it is killed. It
// says Ready.
type Echo struct {
	Listen netip.AddrPort
}

// Run implements Task.
func (e *Echo) Run(out io.Writer) (any, error) {
	var config net.ListenConfig
	config.SetMultipathTCP(false) // which no service behind a gateway speaks
	l, err := config.Listen(context.Background(), "tcp", e.Listen.String())
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintln(out, Ready); err != nil {
		return nil, err
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return nil, err
		}
		go echo(conn) // until the process is killed
	}
}

func echo(conn net.Conn) {
	b := make([]byte, RequestSize)
	for {
		n, err := conn.Read(b)
		if err == nil {
			_, err = conn.Write(b[:n])
		}
		if err != nil {
			_ = conn.Close()
			return
		}
	}
}
