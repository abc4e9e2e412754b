package client

import (
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/knockgw/knockgw/auth"
)

// proving is a dialer that asks for a proof.
func proving() *Dialer { return &Dialer{Auth: auth.Client{Proof: true}} }

func TestEarlyCloseErrorLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, late := range []bool{false, true} {
			inner, peer := net.Pipe()
			conn := proving().DetectEarlyClose(inner)
			if late {
				time.Sleep(maxUpstreamDial + time.Second)
			}
			_ = peer.Close()
			_, err := conn.Read(make([]byte, 1))
			var early *EarlyCloseError
			if !errors.As(err, &early) || early.Late != late || !early.Proven || !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("late %v: %v", late, err)
			}
		}
	})
}

func TestEarlyCloseErrorNotAfterFirstByte(t *testing.T) {
	inner, peer := net.Pipe()
	conn := proving().DetectEarlyClose(inner)
	go func() {
		_, _ = peer.Write([]byte("x"))
		_ = peer.Close()
	}()
	if got, err := io.ReadAll(conn); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
}

// ended is a connection that its peer has ended in order.
type ended struct{ net.Conn }

func (ended) Read([]byte) (int, error) { return 0, io.EOF }
func (ended) CloseWrite() error        { return nil }

func TestEarlyCloseErrorNotAfterCloseWrite(t *testing.T) {
	conn := proving().DetectEarlyClose(ended{})
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || len(got) > 0 {
		t.Errorf("%q, %v", got, err)
	}
}

func TestDetectEarlyCloseWithoutAuthentication(t *testing.T) {
	inner, peer := net.Pipe()
	defer peer.Close()
	defer inner.Close()
	if conn := (&Dialer{NoAuth: true}).DetectEarlyClose(inner); conn != inner {
		t.Errorf("wrapped as %T", conn)
	}
}
