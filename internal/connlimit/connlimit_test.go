package connlimit_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/connlimit"
)

func TestListenerMax(t *testing.T) {
	const limit, timeout = 2, 10 * time.Second
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &connlimit.Listener{Listener: inner, Max: limit}
	taken := make(chan net.Conn)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			taken <- c
		}
	}()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	var mine, theirs []net.Conn
	for range limit {
		mine, theirs = append(mine, dial()), append(theirs, <-taken)
	}
	if l.Active() != limit {
		t.Errorf("%d are open", l.Active())
	}
	refused := dial()
	_ = refused.SetDeadline(time.Now().Add(timeout))
	if _, err := refused.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("one beyond the limit: %v", err)
	}
	for range 2 { // the second time counts nothing
		_ = theirs[0].Close()
	}
	mine, theirs = append(mine, dial()), append(theirs, <-taken)
	if l.Active() != limit {
		t.Errorf("%d are open", l.Active())
	}
	_ = inner.Close()
	<-done
	for _, c := range append(append(mine, theirs...), refused) {
		_ = c.Close()
	}
	var none *connlimit.Listener
	if l.Active() != 0 || none.Active() != 0 {
		t.Errorf("%d are open in the end", l.Active())
	}
}
