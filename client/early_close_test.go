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

// proofDialer is a dialer that asks for a proof.
func proofDialer() *Dialer { return &Dialer{Auth: auth.Client{Proof: true}} }

func TestEarlyCloseErrorLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, late := range []bool{false, true} {
			inner, peer := net.Pipe()
			conn := proofDialer().DetectEarlyClose(inner)
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
	conn := proofDialer().DetectEarlyClose(inner)
	go func() {
		_, _ = peer.Write([]byte("x"))
		_ = peer.Close()
	}()
	if got, err := io.ReadAll(conn); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
}

// endedConn is a connection that its peer has ended in order.
type endedConn struct{ net.Conn }

func (endedConn) Read([]byte) (int, error) { return 0, io.EOF }
func (endedConn) CloseWrite() error        { return nil }

func TestEarlyCloseErrorNotAfterCloseWrite(t *testing.T) {
	conn := proofDialer().DetectEarlyClose(endedConn{})
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
