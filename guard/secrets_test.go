package guard_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/guard"
)

func TestGuardFollowsSecrets(t *testing.T) {
	w := newHarness(t, "127.0.0.1")
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	knocked, far1 := w.connect(bob, quiet)
	authenticated, far2 := w.connect(bob, api)
	other, far3 := w.connect(alice, api)
	w.secrets.Remove("bob")
	w.refused(knocked, nil)
	w.refused(authenticated, nil)
	if _, err := far2.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	for _, far := range []net.Conn{far1, far2} {
		_ = far.Close()
	}
	w.refused(w.dialer(bob, quiet).DialContext(ctx, "tcp", w.addrs[quiet]))
	if _, err := io.WriteString(far3, "alive"); err != nil {
		t.Error(err)
	}
	_ = far3.Close()
	if b, err := io.ReadAll(other); string(b) != "alive" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	_ = other.Close()

	w.secrets.Set(carol)
	for { // until the gate has the change
		conn, err := w.dialer(carol, quiet).DialContext(ctx, "tcp", w.addrs[quiet])
		if err != nil {
			t.Fatal(err)
		}
		select {
		case far := <-w.accepts[quiet]:
			_ = far.Close()
			_ = conn.Close()
			return
		case <-time.After(50 * time.Millisecond):
			_ = conn.Close()
		}
		if ctx.Err() != nil {
			t.Fatal("carol is not admitted")
		}
	}
}

func TestGuardBansFailingSource(t *testing.T) {
	w := newHarness(t, "127.0.0.1", func(o *guard.Options) {
		o.Ban = guard.Ban{After: 1, Within: time.Minute, For: time.Minute}
	})
	d := w.dialer(carol, open)
	if conn, err := d.DialContext(t.Context(), "tcp", w.addrs[open]); err == nil {
		_ = conn.Close()
		t.Fatal("carol is in")
	}
	for deadline := time.Now().Add(timeout); w.result(auth.ResultLimited) == 0; { // the ban is recorded after the reset
		w.refused(net.Dial("tcp", w.addrs[open]))
		if time.Now().After(deadline) {
			t.Fatal("carol is not banned")
		}
	}
	near, far := w.connect(alice, api) // of the same address, but she has knocked
	_ = near.Close()
	_ = far.Close()
}
