package interop

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/protocol"
)

const (
	timeout   = 5 * time.Second  // what takes as long on one host is lost
	gap       = time.Millisecond // between parts: nothing overtakes on loopback
	nonceSize = 16               // bytes, of a UDP knock
	filler    = 0xa5             // where a vector says nothing of the random bytes
)

// random is where a client's random bytes come from, in the order in which it
// asks for them.
func random(parts ...[]byte) io.Reader { return bytes.NewReader(bytes.Join(parts, nil)) }

func TestUDPKnocksMatchVectors(t *testing.T) {
	endpoint, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = endpoint.Close() })
	if err := endpoint.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		t.Fatal(err)
	}
	at := endpoint.LocalAddr().(*net.UDPAddr).AddrPort()
	compared := map[string]int{}
	for i, v := range loadVectors(t).Knock {
		if len(v.TLVs) > 0 {
			continue // our client sends none
		}
		// A vector is one part of a sequence: the others are whatever they are.
		parts := max(1, v.Total)
		draws := [][]byte{v.SequenceID}
		for part := range parts {
			if part == v.Index {
				draws = append(draws, v.nonce(), v.Random)
			} else {
				draws = append(draws, bytes.Repeat([]byte{filler}, nonceSize+len(v.Random)))
			}
		}
		d := &client.Dialer{
			Identity: v.client(t), Method: v.Method, KnockPort: at.Port(), Port: v.Port,
			Sequence: client.Sequence{Length: v.Total, Gap: gap}, Now: v.now, Rand: random(draws...),
		}
		if err := d.Knock(t.Context(), netip.AddrPortFrom(at.Addr(), v.Port), v.SessionID); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		for part := range parts {
			b := make([]byte, protocol.MaxKnock+1)
			n, _, err := endpoint.ReadFromUDPAddrPort(b)
			if err != nil {
				t.Fatalf("%d, part %d: %v", i, part, err)
			}
			if part == v.Index && !bytes.Equal(b[:n], v.Frame) {
				t.Errorf("%d, %s, part %d: sent\n%x, want\n%x", i, v.Method, part, b[:n], v.Frame)
			}
		}
		compared[v.Method]++
	}
	for _, method := range []string{
		protocol.MethodUDP, protocol.MethodUDPPassive, protocol.MethodUDPSeq, protocol.MethodUDPPassiveSeq,
	} {
		if compared[method] == 0 {
			t.Errorf("no vector of %s was compared: %v", method, compared)
		}
	}
}

func TestAuthenticationsMatchVectors(t *testing.T) {
	all := loadVectors(t)
	for i, v := range all.FrameV1 {
		compareStream(t, i, v, auth.V1, random(v.Frame[3:3+nonceSize])) // behind version, flags and reserved
	}
	for i, v := range all.EnvelopeV2 {
		one := []byte{0} // draws the only bucket
		compareStream(t, i, v, auth.V2, random(one, v.Frame[:protocol.EnvelopePrefix], padOf(t, v)))
	}
}

// compareStream connects to a server that answers as the vector does, and
// compares what it is sent.
func compareStream(t *testing.T, i int, v streamVector, p auth.Protocol, draws io.Reader) {
	t.Helper()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan []byte, 1)
	go func() {
		b := make([]byte, len(v.Frame))
		conn, err := server.Accept()
		if err == nil {
			_ = conn.SetDeadline(time.Now().Add(timeout))
			if _, err = io.ReadFull(conn, b); err == nil && v.wantsProof() {
				_, err = conn.Write(v.ServerProof)
			}
			err = errors.Join(err, conn.Close())
		}
		if err != nil {
			b = []byte(err.Error())
		}
		sent <- b
	}()
	d := &client.Dialer{
		Identity: v.client(t), NoKnock: true, Port: v.Port, Now: v.now, Rand: draws,
		SessionID: append([]byte{}, v.SessionID...), // none is one as well: it is not drawn
		Auth: auth.Client{
			Protocol: p, Hint: v.HintMode, Buckets: []int{v.Bucket}, Proof: v.wantsProof(),
			Method: v.Method, Extensions: v.Extensions,
		},
	}
	conn, err := d.DialContext(t.Context(), "tcp", server.Addr().String())
	if err != nil {
		t.Errorf("%v, %d: %v", p, i, err)
		_ = server.Close() // without connections
	} else {
		_ = conn.Close()
	}
	got := <-sent
	_ = server.Close()
	if !bytes.Equal(got, v.Frame) {
		t.Errorf("%v, %d: sent\n%x, want\n%x", p, i, got, v.Frame)
	}
}

// padOf opens an envelope by the book for the random bytes at its end. (TCP
// envelope v2.)
func padOf(t *testing.T, v streamVector) []byte {
	t.Helper()
	const label = "tcp-auth-envelope-v2"
	head := protocol.EnvelopePrefix
	prefix := v.Frame[:head]
	if v.HintMode == protocol.HintRoute {
		head += 8
	}
	key, err := hkdf.Key(sha256.New, v.Secret, prefix, "libknock "+"tcp-auth envelope v2", chacha20poly1305.KeySize)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		t.Fatal(err)
	}
	aad := bytes.Clone(v.Frame[:head])
	aad = binary.BigEndian.AppendUint16(aad, uint16(v.Bucket))
	aad = binary.BigEndian.AppendUint16(aad, v.Port)
	plain, err := aead.Open(nil, prefix, v.Frame[head:], append(aad, label...))
	if err != nil {
		t.Fatal(err)
	}
	// version, flags, time, client, port, three fields with their lengths, the
	// pad with its length
	at := 1 + 1 + 8 + 16 + 2 + 1 + len(v.Method) + 1 + len(v.SessionID) + 2 + len(v.Extensions) + 2
	return plain[at:]
}
