package auth

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/knockgw/knockgw/protocol"
)

// recorded is a conn that plays bytes and then ends, and takes no answer.
type recorded struct {
	net.Conn
	in      io.Reader
	written int
}

func (r *recorded) Read(b []byte) (int, error)  { return r.in.Read(b) }
func (r *recorded) Write(b []byte) (int, error) { r.written += len(b); return len(b), nil }

// FuzzStream gives streams of unauthorized hosts to a server of both formats.
// Only a message of a client with the secret authenticates and is answered.
func FuzzStream(f *testing.F) {
	alice := identity(f, "alice")
	now := func() time.Time { return time.Unix(1790000000, 0) }
	random := rand.NewChaCha8([32]byte{1}) // the same in every process of the fuzzer
	var genuine [][]byte
	for _, p := range []Protocol{V1, V2} {
		for _, hint := range []protocol.HintMode{protocol.HintRoute, protocol.HintNone} {
			raw := message(f, &Client{Identity: alice, Port: testPort, Protocol: p, Hint: hint, Proof: true, Now: now, Rand: random})
			genuine = append(genuine, raw)
			f.Add(raw, hint == protocol.HintNone)
			f.Add(append(bytes.Clone(raw), "GET / HTTP/1.0\r\n\r\n"...), hint == protocol.HintNone)
		}
	}
	f.Add([]byte{1}, false)
	f.Fuzz(func(t *testing.T, stream []byte, none bool) {
		s := &Server{Port: testPort, Clients: clients(alice), Proof: true, Now: now}
		if none {
			s.Hint = protocol.HintNone
		}
		s.once.Do(s.setup)
		conn := &recorded{in: bytes.NewReader(stream)}
		a := s.attempts.Get().(*attempt)
		a.Server, a.ctx, a.conn, a.candidates = s, t.Context(), conn, s.Clients
		_, failure := a.authenticate()
		switch {
		case failure != nil && conn.written != 0:
			t.Fatalf("answered %v", failure)
		case failure == nil && conn.written != protocol.ProofSize:
			t.Fatalf("proof of %d bytes", conn.written)
		case failure == nil && !slices.ContainsFunc(genuine, func(raw []byte) bool { return bytes.Equal(raw, stream[:a.n]) }):
			t.Fatalf("authenticated %x", stream[:a.n])
		}
	})
}
