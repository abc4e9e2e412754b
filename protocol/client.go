package protocol

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"unicode/utf8"
)

// Limits of an identity. (Conventions.)
const (
	MinSecret   = 16    // bytes; 128 bits is the least that is worth a MAC
	MaxClientID = 65535 // bytes; the length travels in a u16 where a SYN's fields are derived
)

// The labels that keep one use of a secret from being taken for another.
const (
	labelTCPClient = "client-id"
	labelUDPClient = "libknock client-id v1" // UDP's label is not TCP's
)

// Client is an identity: a client id and its secret, with everything that can be derived once already
// derived. It is immutable and safe for concurrent use. Whatever it is printed or logged with, it
// shows the id and never the secret.
type Client struct {
	id    string
	*keys // a pointer: fmt prints fields behind one as an address, whatever verb, copy or wrapper
}

// keys is what is derived from an identity, and the secret itself.
type keys struct {
	rawID   []byte // id again, so that hashing it converts nothing
	secret  []byte // HKDF's input key material
	states  midstates
	tcpHash [clientHashSize]byte
	udpHash [clientHashSize]byte
}

// NewClient derives a client's identity from its id (1 to 65535 bytes of UTF-8 without NUL) and its
// secret (at least 16 bytes), which it copies. It fails with ErrClientID or ErrShortSecret.
func NewClient(id string, secret []byte) (*Client, error) {
	if id == "" || len(id) > MaxClientID || !utf8.ValidString(id) || strings.IndexByte(id, 0) >= 0 {
		return nil, ErrClientID
	}
	if len(secret) < MinSecret {
		return nil, ErrShortSecret
	}
	c := &Client{id: strings.Clone(id), keys: &keys{
		rawID:  []byte(id),
		secret: append([]byte(nil), secret...),
		states: newMidstates(secret),
	}}
	s := NewScratch()
	s.clientHash(&c.tcpHash, c, labelTCPClient)
	s.clientHash(&c.udpHash, c, labelUDPClient)
	return c, nil
}

func (s *Scratch) clientHash(out *[clientHashSize]byte, c *Client, label string) {
	s.begin(&c.states)
	s.msg = append(s.msg[:0], label...)
	s.digest.Write(s.msg)
	s.digest.Write(c.rawID)
	copy(out[:], s.finish(&c.states))
}

// Equal reports whether o has the same id and the same secret, the latter in constant time: a reload
// asks it to find the clients that it must end. Either may be nil.
func (c *Client) Equal(o *Client) bool {
	if c == nil || o == nil {
		return c == o
	}
	return c.id == o.id && subtle.ConstantTimeCompare(c.secret, o.secret) == 1
}

// ID is the client's id.
func (c *Client) ID() string { return c.id }

// String is the client's id, marked as such. It never has the secret in it.
func (c Client) String() string { return "client " + c.id }

// GoString is String: %#v must not print the secret either.
func (c Client) GoString() string { return c.String() }

// Format prints String under every verb, because fmt prints the fields of a struct under verbs that a
// Stringer does not handle, such as %d. The receiver is a value so that a copy is covered as well.
func (c Client) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// LogValue logs the id alone.
func (c Client) LogValue() slog.Value { return slog.StringValue(c.id) }
