package auth

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/knockgw/knockgw/protocol"
)

// answering is a conn whose other end sends arbitrary bytes.
type answering struct{ recorded }

func (*answering) SetDeadline(time.Time) error      { return nil }
func (*answering) SetReadDeadline(time.Time) error  { return nil }
func (*answering) SetWriteDeadline(time.Time) error { return nil }
func (*answering) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (*answering) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*answering) Close() error                     { return nil }

// FuzzProof gives a client the answers of a server without the secret. None is
// accepted as the gateway's proof.
func FuzzProof(f *testing.F) {
	f.Add(make([]byte, protocol.ProofSize), true)
	f.Add(make([]byte, protocol.ProofSize-1), false)
	f.Add([]byte(nil), true)
	alice := identity(f, "alice")
	f.Fuzz(func(t *testing.T, answer []byte, v1 bool) {
		c := &Client{Identity: alice, Port: testPort, Protocol: V2, Proof: true}
		if v1 {
			c.Protocol = V1
		}
		conn := &answering{recorded{in: bytes.NewReader(answer)}}
		if err := c.Handshake(t.Context(), conn); err == nil {
			t.Fatalf("%x passed for a proof", answer)
		}
	})
}
