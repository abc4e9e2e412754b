//go:build linux

package load

import (
	"fmt"
	"io"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Idle opens connections, has each exchange a few bytes, and then keeps them
// without a word until it is killed. It says Ready when all are there.
type Idle struct {
	Target netip.AddrPort
	Count  int
}

// idleRequest is what is exchanged, so that the connection has got through to
// the server.
const idleRequest = "hello, and no more"

// Run implements Task; there is no result.
func (i *Idle) Run(out io.Writer) (any, error) {
	for n := range i.Count {
		s, err := dial(netip.Addr{}, i.Target)
		if err == nil {
			err = s.ask([]byte(idleRequest))
		}
		if err != nil {
			return nil, fmt.Errorf("connection %d: %w", n, err)
		}
	}
	if _, err := fmt.Fprintln(out, Ready); err != nil {
		return nil, err
	}
	for {
		_ = unix.Pause() // a signal that does not kill is none to end for
	}
}
