package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/http"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// wrapper wraps another connection and has NetConn.
type wrapper struct{ net.Conn }

func (w wrapper) NetConn() net.Conn { return w.Conn }

// endless wraps itself.
type endless struct{ net.Conn }

func (e endless) NetConn() net.Conn { return e }

func TestPeerOfUnwrapsConns(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	conn := &Conn{Conn: far, peer: Peer{Client: identity(t, "alice")}}
	type embeds struct{ *Conn }
	for name, test := range map[string]struct {
		conn net.Conn
		want string
	}{
		"itself":             {conn, "alice"},
		"a wrapper":          {wrapper{conn}, "alice"},
		"two wrappers":       {wrapper{wrapper{conn}}, "alice"},
		"TLS":                {tls.Server(conn, nil), "alice"},
		"TLS on a wrapper":   {tls.Server(wrapper{conn}, nil), "alice"},
		"an embedding":       {embeds{conn}, "alice"},
		"another connection": {far, ""},
		"TLS on another":     {tls.Server(far, nil), ""},
		"a circle":           {endless{far}, ""},
		"nothing":            {nil, ""},
	} {
		peer, ok := PeerOf(test.conn)
		if ok != (test.want != "") || peer.ClientID() != test.want {
			t.Errorf("%s: %q, %v", name, peer.ClientID(), ok)
		}
		if got, ok := PeerFromContext(ConnContext(t.Context(), test.conn)); ok != (test.want != "") || got.ClientID() != test.want {
			t.Errorf("%s: in the context, %q, %v", name, got.ClientID(), ok)
		}
	}
	if _, ok := PeerFromContext(t.Context()); ok {
		t.Error("a context without a peer has one")
	}
}

// certificate returns a self-signed certificate for 127.0.0.1.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}, pool
}

func TestPeerFromContextUnderTLS(t *testing.T) {
	defer goleak.VerifyNone(t)
	alice := identity(t, "alice")
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip("no loopback: ", err)
	}
	cert, pool := certificate(t)
	listener := NewListener(inner, &Server{Port: testPort, Clients: clients(alice)}, ListenerOptions{})
	server := &http.Server{
		ConnContext: ConnContext,
		TLSConfig:   &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			peer, _ := PeerFromContext(r.Context())
			_, _ = io.WriteString(w, peer.ClientID()+" "+peer.Method()+" "+string(peer.SessionID())+" "+string(peer.Extensions()))
		}),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.ServeTLS(listener, "", "")
	}()
	for _, protocols := range []string{"HTTP/1.1", "HTTP/2.0"} {
		dialer := Dialer{Client: &Client{
			Identity: alice, Port: testPort, Method: "udp", SessionID: []byte("the session's id"), Extensions: []byte("more"),
		}}
		transport := &http.Transport{
			DialContext: dialer.DialContext, ForceAttemptHTTP2: protocols == "HTTP/2.0",
			TLSClientConfig: &tls.Config{RootCAs: pool},
		}
		response, err := (&http.Client{Transport: transport}).Get("https://" + listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		if err != nil || string(body) != "alice udp the session's id more" || response.Proto != protocols {
			t.Errorf("%s: %q, %v", response.Proto, body, err)
		}
		_ = response.Body.Close()
		transport.CloseIdleConnections()
	}
	_ = server.Close()
	<-done
}
