package auth

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"iter"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/knockgw/knockgw/protocol"
)

const testPort = 8443

func identity(t testing.TB, id string) *protocol.Client {
	t.Helper()
	c, err := protocol.NewClient(id, []byte("0123456789abcdef"+id))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func clients(all ...*protocol.Client) iter.Seq[*protocol.Client] { return slices.Values(all) }

// message returns the message that c would send.
func message(t testing.TB, c *Client) []byte {
	t.Helper()
	raw, _, err := c.encode()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// outcome is the outcome of a handshake on both sides.
type outcome struct {
	peer    Peer
	err     error
	elapsed time.Duration
	answer  []byte // what the peer received before the server's end was closed
}

// handshake plays a stream against s, inside a synctest bubble: all of stream,
// in pieces of the given size, then a FIN if fin. wrap, if not nil, wraps the
// server's end.
func handshake(s *Server, stream []byte, piece int, fin bool, wrap func(net.Conn) net.Conn) outcome {
	near, far := net.Pipe()
	var o outcome
	var wait sync.WaitGroup
	wait.Go(func() { // reads for as long as anything may come
		o.answer, _ = io.ReadAll(near)
	})
	wait.Go(func() {
		for rest := stream; len(rest) > 0; {
			n := min(piece, len(rest))
			if _, err := near.Write(rest[:n]); err != nil {
				return
			}
			rest = rest[n:]
		}
		if fin {
			near.Close()
		}
	})
	conn := net.Conn(far)
	if wrap != nil {
		conn = wrap(far)
	}
	start := time.Now()
	o.peer, o.err = s.Handshake(context.Background(), conn)
	o.elapsed = time.Since(start)
	far.Close()
	wait.Wait()
	return o
}

func TestHandshakeReadsExactlyOneMessage(t *testing.T) {
	alice, bob := identity(t, "alice"), identity(t, "bob")
	for _, server := range []Protocol{V1, V2, V1 | V2} {
		for _, format := range []Protocol{V1, V2} {
			for _, hint := range []protocol.HintMode{protocol.HintRoute, protocol.HintNone} {
				for _, proof := range []bool{false, true} {
					if server&format == 0 {
						continue
					}
					name := server.String() + "/" + format.String() + "/" + string(hint)
					synctest.Test(t, func(t *testing.T) {
						s := &Server{Port: testPort, Clients: clients(bob, alice), Protocols: server, Hint: hint, Proof: true}
						c := &Client{
							Identity: alice, Port: testPort, Protocol: format, Hint: hint, Proof: proof,
							Method: "tcp-auth", SessionID: []byte("session"), Extensions: []byte{1, 2, 3},
						}
						near, far := net.Pipe()
						defer near.Close()
						defer far.Close()
						var wait sync.WaitGroup
						defer wait.Wait()
						wait.Go(func() {
							if err := c.Handshake(t.Context(), near); err != nil {
								t.Errorf("%s: client: %v", name, err)
								near.Close()
								return
							}
							time.Sleep(time.Minute) // no deadline is left behind on either end
							if _, err := near.Write([]byte("application")); err != nil {
								t.Errorf("%s: client: %v", name, err)
							}
						})
						peer, err := s.Handshake(t.Context(), far)
						if err != nil {
							t.Fatalf("%s: %v", name, err)
						}
						if peer.Client != alice || peer.Protocol != format || peer.Message.WantProof != proof ||
							string(peer.Message.SessionID) != "session" || peer.Message.Method != "tcp-auth" {
							t.Errorf("%s: %+v", name, peer)
						}
						rest := make([]byte, len("application"))
						if _, err := io.ReadFull(far, rest); err != nil || string(rest) != "application" {
							t.Errorf("%s: %q, %v", name, rest, err)
						}
					})
				}
			}
		}
	}
}

// counted counts the bytes read from a conn.
type counted struct {
	net.Conn
	read int
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.read += n
	return n, err
}

func TestHandshakeReadsNoByteBeyondMessage(t *testing.T) {
	alice := identity(t, "alice")
	for _, format := range []Protocol{V1, V2} {
		for _, bucket := range protocol.DefaultBuckets() {
			for _, piece := range []int{1, 7, 4096} {
				synctest.Test(t, func(t *testing.T) {
					raw := message(t, &Client{Identity: alice, Port: testPort, Protocol: format, Buckets: []int{bucket}})
					var conn *counted
					o := handshake(&Server{Port: testPort, Clients: clients(alice)},
						append(raw, "GET / HTTP/1.0"...), piece, false,
						func(c net.Conn) net.Conn { conn = &counted{Conn: c}; return conn })
					if o.err != nil || conn.read != len(raw) || o.elapsed != 0 {
						t.Errorf("%v in %d: %v, read %d of %d in %v", format, piece, o.err, conn.read, len(raw), o.elapsed)
					}
				})
			}
		}
	}
}

// refusing is a conn whose peer resets it at once.
type refusing struct{ net.Conn }

func (refusing) Read([]byte) (int, error) { return 0, syscall.ECONNRESET }

func TestHandshakeFailuresEndSilentlyAtDeadline(t *testing.T) {
	alice, eve := identity(t, "alice"), identity(t, "eve")
	junk := make([]byte, 1<<20)
	if _, err := rand.Read(junk); err != nil {
		t.Fatal(err)
	}
	junk[0] = 0xee
	type scenario struct {
		name   string
		stream []byte
		result Result // with both formats
		wrap   func(net.Conn) net.Conn
	}
	for _, hint := range []protocol.HintMode{protocol.HintRoute, protocol.HintNone} {
		for _, enabled := range []Protocol{V1, V2, V1 | V2} {
			synctest.Test(t, func(t *testing.T) {
				now := time.Now()
				at := func(d time.Duration) func() time.Time { return func() time.Time { return now.Add(d) } }
				client := func(p Protocol, edit func(*Client)) []byte {
					c := &Client{Identity: alice, Port: testPort, Protocol: p, Hint: hint, Now: at(0)}
					edit(c)
					return message(t, c)
				}
				plain := func(*Client) {}
				replayed := map[Protocol][]byte{V1: client(V1, plain), V2: client(V2, plain)}
				scenarios := []scenario{
					{"nothing", nil, ResultTimeout, nil},
					{"1 byte", junk[:1], ResultTimeout, nil},
					{"31 bytes", junk[:31], ResultTimeout, nil},
					{"junk of 1 MiB", junk, ResultUnknown, nil},
					{"frame v1 with a bad header", append([]byte{1, 0xff}, junk[2:64]...), ResultMalformed, nil},
					{"frame v1 too long", append(append([]byte{1, 0, 0}, junk[:24]...), 0xff, 0xff), ResultMalformed, nil},
					{"reset by the peer", nil, ResultClosed, func(c net.Conn) net.Conn { return refusing{c} }},
				}
				if hint == protocol.HintRoute {
					scenarios = append(scenarios, scenario{"32 bytes", junk[:32], ResultUnknown, nil})
				}
				for p, raw := range replayed {
					scenarios = append(scenarios,
						scenario{p.String() + " cut short", raw[:len(raw)-1], ResultTimeout, nil},
						scenario{p.String() + " stale", client(p, func(c *Client) { c.Now = at(-31 * time.Second) }), ResultStale, nil},
						scenario{p.String() + " from the future", client(p, func(c *Client) { c.Now = at(31 * time.Second) }), ResultStale, nil},
						scenario{p.String() + " of an unknown client", append(client(p, func(c *Client) { c.Identity = eve }), junk[:512]...), ResultUnknown, nil},
						scenario{p.String() + " for another port", append(client(p, func(c *Client) { c.Port++ }), junk[:512]...), ResultUnknown, nil},
						scenario{p.String() + " asking for a proof", client(p, func(c *Client) { c.Proof = true }), ResultProof, nil},
						scenario{p.String() + " replayed", raw, ResultReplay, nil},
						scenario{p.String() + " without authorization", client(p, func(c *Client) { c.SessionID = []byte("refuse") }), ResultUnauthorized, nil},
					)
				}
				s := &Server{
					Port: testPort, Clients: clients(alice), Protocols: enabled, Hint: hint, Now: at(0), Deadline: 700 * time.Millisecond,
					Authorize: func(_ context.Context, p Peer, claim func() error) error {
						if string(p.Message.SessionID) == "refuse" {
							return errors.New("no grant")
						}
						return claim()
					},
				}
				for p, raw := range replayed {
					if o := handshake(s, raw, 4096, false, nil); enabled&p != 0 && o.err != nil {
						t.Fatalf("%v: first use: %v", p, o.err)
					}
				}
				for _, c := range scenarios {
					for _, fin := range []bool{false, true} {
						for _, behind := range []int{0, 5000} {
							stream := c.stream
							if c.result != ResultTimeout {
								stream = append(slices.Clone(stream), junk[:behind]...)
							}
							o := handshake(s, stream, 4096, fin, c.wrap)
							if o.elapsed != s.Deadline {
								t.Errorf("%v %v %s, fin %v: ended after %v", enabled, hint, c.name, fin, o.elapsed)
							}
							if len(o.answer) != 0 {
								t.Errorf("%v %v %s, fin %v: answered %x", enabled, hint, c.name, fin, o.answer)
							}
							want := c.result
							if want == ResultTimeout && fin {
								want = ResultClosed
							}
							if got := ResultOf(o.err); got == ResultOK || (enabled == V1|V2 && hint == protocol.HintRoute && got != want) {
								t.Errorf("%v %v %s, fin %v: %v, want %v", enabled, hint, c.name, fin, o.err, want)
							}
						}
					}
				}
			})
		}
	}
}
