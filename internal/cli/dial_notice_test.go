package cli

import (
	"bytes"
	"context"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/protocol"
)

// deafUDP returns a UDP socket that never replies.
type deafUDP struct{ net.Conn }

func (deafUDP) Write(b []byte) (int, error) { return len(b), nil }
func (deafUDP) Close() error                { return nil }
func (deafUDP) LocalAddr() net.Addr         { return &net.UDPAddr{} }

// silentTarget is a service that does not answer, as with a wrong secret or a
// gateway that is down.
func silentTarget(t *testing.T) *target {
	t.Helper()
	identity, err := protocol.NewClient("alice", []byte("0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	return &target{name: "lab/ssh", address: "10.77.0.1:22", Dialer: &client.Dialer{
		Identity: identity, Timeout: client.DefaultTimeout,
		Dial: func(ctx context.Context, _ *net.Dialer, network, _ string) (net.Conn, error) {
			if network == "udp" {
				return deafUDP{}, nil
			}
			<-ctx.Done()
			return nil, ctx.Err()
		},
	}}
}

func TestDialWithNotice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		began := time.Now()
		_, err := silentTarget(t).dialWithNotice(t.Context(), &said)
		if err == nil || time.Since(began) != client.DefaultTimeout {
			t.Errorf("it took %v: %v", time.Since(began), err)
		}
		if got := said.String(); got != "knockgw: no answer from 10.77.0.1:22 yet; trying for up to 10s ...\n" {
			t.Errorf("it said %q", got)
		}
		if text := err.Error(); strings.Contains(text, "deadline") || strings.Index(text, "gateway runs") > strings.Index(text, "secret") {
			t.Errorf("the error is %s", text)
		}
	})
}
