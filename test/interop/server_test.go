package interop

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/protocol"
)

// application is what follows an authentication, and must come out untouched.
const application = "what the application says first"

// stream hands a server a connection on which these bytes come, and returns
// what it made of it: the peer, the proof that it answered with, and what was
// left for the application.
func stream(t *testing.T, s *auth.Server, b []byte, proof int) (peer auth.Peer, answer, rest []byte, err error) {
	t.Helper()
	near, far := net.Pipe()
	answered := make(chan []byte, 1)
	go func() {
		_, failed := far.Write(b)
		got := make([]byte, proof)
		if failed == nil {
			_, failed = io.ReadFull(far, got)
		}
		if failed != nil {
			got = nil
		}
		_, _ = far.Write([]byte(application))
		_ = far.Close()
		answered <- got
	}()
	peer, err = s.Handshake(t.Context(), near)
	if err == nil {
		rest, err = io.ReadAll(near)
	}
	_ = near.Close()
	return peer, <-answered, rest, err
}

// In a bubble, as a server takes its time to refuse.
func TestServerAcceptsVectorsAndProves(t *testing.T) {
	synctest.Test(t, takeStreams)
}

func takeStreams(t *testing.T) {
	all := loadVectors(t)
	for _, c := range []struct {
		format auth.Protocol
		cases  []streamVector
	}{{auth.V1, all.FrameV1}, {auth.V2, all.EnvelopeV2}} {
		for i, v := range c.cases {
			who := v.client(t)
			server := &auth.Server{
				Port: v.Port, Proof: true, Hint: v.HintMode, Now: v.now,
				Clients: func(yield func(*protocol.Client) bool) { yield(who) },
			}
			size := 0
			if v.wantsProof() {
				size = len(v.ServerProof)
			}
			peer, proof, rest, err := stream(t, server, v.Frame, size)
			if err != nil {
				t.Errorf("%v, %d: %v", c.format, i, err)
				continue
			}
			if peer.Client != who || peer.Protocol != c.format || string(rest) != application {
				t.Errorf("%v, %d: %v by %v, then %q", c.format, i, peer.Client, peer.Protocol, rest)
			}
			m := peer.Message
			if m.Method != v.Method || !bytes.Equal(m.SessionID, v.SessionID) || !bytes.Equal(m.Extensions, v.Extensions) || m.Time != v.UnixMS {
				t.Errorf("%v, %d: %+v", c.format, i, m)
			}
			if size > 0 && !bytes.Equal(proof, v.ServerProof) {
				t.Errorf("%v, %d: proved with\n%x, want\n%x", c.format, i, proof, v.ServerProof)
			}
			if _, _, _, err := stream(t, server, v.Frame, 0); !errors.Is(err, auth.ErrReplayed) {
				t.Errorf("%v, %d, once more: %v", c.format, i, err)
			}
		}
	}
}
