package gateway_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/knockgw/knockgw/gateway"
)

// embedded configures services of the program itself.
const embedded = `
  - {name: quiet, listen: "10.77.0.1:2", mode: knock}
  - {name: api, listen: "10.77.0.1:3", mode: knock-auth}
  - {name: public, listen: "10.77.0.1:1", mode: auth}
`

func TestListenerAcceptsConnections(t *testing.T) {
	h := newHarness(t, true, embedded)
	for name, port := range map[string]uint16{"quiet": modeKnock, "api": modeKnockAuth, "public": modeAuth} {
		ln, err := h.gw.Listener(name)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := ln.Addr().String(), target(clientAddrs[0], port).String(); got != want {
			t.Errorf("the listener is at %s, want %s", got, want)
		}
		served := make(chan error, 1)
		go func() {
			served <- func() error {
				c, err := ln.Accept()
				if err != nil {
					return err
				}
				defer c.Close()
				conn := c.(*gateway.Conn)
				from, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
				if conn.Client() != "bob" || from.Addr() != clientAddrs[0] || conn.LocalAddr().String() != ln.Addr().String() {
					return fmt.Errorf("client %q, from %v to %v", conn.Client(), conn.RemoteAddr(), conn.LocalAddr())
				}
				b, err := io.ReadAll(conn)
				if err != nil {
					return err
				}
				if _, err := conn.Write(b); err != nil {
					return err
				}
				if err := conn.CloseWrite(); err != nil {
					return err
				}
				return conn.Close()
			}()
		}()
		conn, err := h.connectAs(bob, clientAddrs[0], port)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		h.exchange(conn, 1<<16)
		if err := <-served; err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestListenerRequiresServiceWithoutUpstream(t *testing.T) {
	h := newHarness(t, true, services(echoUpstream(t)))
	for _, name := range []string{"ipv4-1", "nothing"} {
		if _, err := h.gw.Listener(name); err == nil {
			t.Errorf("%s has a listener", name)
		}
	}
}

func TestListenerRefusesAfterClose(t *testing.T) {
	h := newHarness(t, true, embedded)
	ln, err := h.gw.Listener("quiet")
	if err != nil {
		t.Fatal(err)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept: %v", err)
	}
	conn, err := h.connectAs(alice, clientAddrs[0], modeKnock)
	if err != nil {
		return // reset at once: as good
	}
	_ = conn.SetDeadline(time.Now().Add(timeout))
	if _, err := conn.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("not reset: %v", err)
	}
	_ = conn.Close()
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

func TestListenerClosesWithGateway(t *testing.T) {
	h := newHarness(t, true, embedded)
	ln, err := h.gw.Listener("api")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := ln.Accept()
		ended <- err
	}()
	h.stop()
	select {
	case err := <-ended:
		if !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	case <-time.After(timeout):
		t.Fatal("Accept goes on waiting")
	}
}

func TestListenerClosesPendingConnections(t *testing.T) {
	h := newHarness(t, true, embedded)
	conn, err := h.connectAs(alice, clientAddrs[0], modeKnock)
	if err != nil {
		t.Fatal(err)
	}
	h.stop()
	_ = conn.SetDeadline(time.Now().Add(timeout))
	if _, err := conn.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("not ended: %v", err)
	}
	_ = conn.Close()
}
