package netstack_test

import (
	"errors"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/knockgw/knockgw/netstack"
	"github.com/knockgw/knockgw/packet"
)

// waitRead returns when Read would not block.
func waitRead(c *netstack.Conn) {
	ready := make(chan struct{}, 1)
	defer c.NotifyRead(func() {
		select {
		case ready <- struct{}{}:
		default:
		}
	})()
	for !c.CanRead() {
		<-ready
	}
}

func TestConnNotifyRead(t *testing.T) {
	for name, c := range map[string]struct {
		cause func(client *raw, c *netstack.Conn)
		n     int
		fails bool
		eof   bool
	}{
		"data":    {cause: func(client *raw, _ *netstack.Conn) { client.send(packet.ACK, []byte("data")) }, n: 4},
		"end":     {cause: func(client *raw, _ *netstack.Conn) { client.send(packet.FIN|packet.ACK, nil) }, fails: true, eof: true},
		"reset":   {cause: func(client *raw, _ *netstack.Conn) { client.send(packet.RST|packet.ACK, nil) }, fails: true},
		"aborted": {cause: func(_ *raw, c *netstack.Conn) { c.Abort() }, fails: true},
		"closed":  {cause: func(_ *raw, c *netstack.Conn) { c.Close() }, fails: true},
	} {
		for when, wait := range map[string]time.Duration{"already": 0, "later": 20 * time.Millisecond} {
			t.Run(name+" "+when, func(t *testing.T) {
				th := newHarness(t, true)
				client := th.raw(1000, netip.AddrPortFrom(target4, hiddenPort)).open()
				conn := th.accepted()
				waited := make(chan struct{})
				if wait == 0 {
					c.cause(client, conn)
				}
				go func() { waitRead(conn); close(waited) }()
				if wait > 0 {
					select {
					case <-waited:
						t.Error("it returned for nothing")
					case <-time.After(wait):
					}
					c.cause(client, conn)
				}
				select {
				case <-waited:
				case <-time.After(timeout):
					t.Fatal("it waits on")
				}
				n, err := conn.Read(make([]byte, 10))
				if n != c.n || (err != nil) != c.fails || errors.Is(err, io.EOF) != (c.eof || name == "closed") {
					t.Errorf("%d, %v", n, err)
				}
			})
		}
	}
}

func TestConnAbortUnblocksWrite(t *testing.T) {
	th := newHarness(t, true)
	th.raw(1000, netip.AddrPortFrom(target4, hiddenPort)).open()
	c := th.accepted()
	blocked := make(chan error, 1)
	go func() {
		var err error
		for err == nil {
			_, err = c.Write(make([]byte, 256<<10))
		}
		blocked <- err
	}()
	select {
	case err := <-blocked:
		t.Fatalf("the stack takes all there is: %v", err)
	case <-time.After(quietPeriod):
	}
	c.Abort()
	select {
	case <-blocked:
	case <-time.After(timeout):
		t.Error("it writes on")
	}
	c.Abort()
	c.Close()
	c.Abort()
}
