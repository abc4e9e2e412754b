package auth_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/protocol"
)

// The stream data of a libknock client's packets, in the order sent: per
// connection its authentication, then 18 bytes of the application's.
type segment struct {
	at      time.Time
	payload []byte
}

func capturedSegments(t *testing.T) (all []segment) {
	t.Helper()
	for _, p := range packettest.ReadCapture(t, "../admission/testdata/client.pcap") {
		const tcp = 6
		ip := p.Data
		if ip[9] != tcp {
			continue
		}
		header := int(ip[0]&15) * 4
		data := ip[header+int(ip[header+12]>>4)*4 : binary.BigEndian.Uint16(ip[2:])]
		if len(data) > 0 {
			all = append(all, segment{p.Time, data})
		}
	}
	return all
}

func TestServerAuthenticatesCapturedLibknockClient(t *testing.T) {
	client, err := protocol.NewClient("client-001", []byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	segments := capturedSegments(t)
	if len(segments) != 4 {
		t.Fatalf("%d segments with data", len(segments))
	}
	var now time.Time
	server := &auth.Server{
		Port: 8443, Proof: true, Now: func() time.Time { return now },
		Clients: func(yield func(*protocol.Client) bool) { yield(client) },
	}
	handshake := func(stream []byte) (auth.Peer, string, error) {
		near, far := net.Pipe()
		sent := make(chan error, 1)
		go func() {
			_, err := far.Write(stream)
			sent <- errors.Join(err, far.Close())
		}()
		peer, err := server.Handshake(context.Background(), near)
		rest := ""
		if err == nil {
			b, _ := io.ReadAll(near)
			rest = string(b)
		}
		_ = near.Close()
		<-sent
		return peer, rest, err
	}
	for i, want := range []auth.Protocol{auth.V1, auth.V2} {
		message, data := segments[2*i], segments[2*i+1]
		stream := append(append([]byte(nil), message.payload...), data.payload...)
		now = message.at
		peer, rest, err := handshake(stream)
		if err != nil {
			t.Fatalf("%v: %v", want, err)
		}
		if peer.Client != client || peer.Protocol != want || rest != string(data.payload) {
			t.Errorf("%v: %v, %v, then %q", want, peer.Client, peer.Protocol, rest)
		}
		if skew := message.at.UnixMilli() - peer.Message.Time; skew < -1000 || skew > 1000 {
			t.Errorf("%v: the message's time is %d ms off", want, skew)
		}
	}
}
