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
	MinSecret   = 16    // bytes; a MAC with fewer than 128 bits is weak
	MaxClientID = 65535 // bytes; the derivation of SYN fields has its length as a u16
)

// Labels separate the uses of a secret.
const (
	labelTCPClient = "client-id"
	labelUDPClient = "libknock client-id v1" // differs from that of TCP
)

// Client is an identity: a client ID and its secret, with all values that can
// be derived in advance. It is immutable and safe for concurrent use. However
// it is printed or logged, it shows the ID and never the secret.
type Client struct {
	id    string
	*keys // a pointer: fmt prints it as an address, whatever verb, copy or wrapper
}

// keys is the secret and the values derived from it.
type keys struct {
	rawID   []byte // the ID again, to hash it without a conversion
	secret  []byte // HKDF's input key material
	states  midstates
	tcpHash [clientHashSize]byte
	udpHash [clientHashSize]byte
}

// NewClient returns a client with an ID (1 to 65535 bytes of UTF-8 without NUL)
// and a secret (at least 16 bytes), which it copies. It returns ErrClientID or
// ErrShortSecret if they are invalid.
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

// Equal reports whether o has the same ID and the same secret, the latter in
// constant time. A reload uses it to find removed clients. Either may be nil.
func (c *Client) Equal(o *Client) bool {
	if c == nil || o == nil {
		return c == o
	}
	return c.id == o.id && subtle.ConstantTimeCompare(c.secret, o.secret) == 1
}

// ID returns the client's ID.
func (c *Client) ID() string { return c.id }

// String returns "client " and the ID, never the secret.
func (c Client) String() string { return "client " + c.id }

// GoString is String: %#v must not print the secret either.
func (c Client) GoString() string { return c.String() }

// Format prints String for every verb, because fmt prints the fields of a
// struct for verbs that a Stringer does not handle, such as %d. The receiver is
// a value so that copies are covered as well.
func (c Client) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// LogValue returns the ID.
func (c Client) LogValue() slog.Value { return slog.StringValue(c.id) }
