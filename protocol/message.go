package protocol

import (
	"crypto/subtle"
	"math"
)

// Flag bits of frame v1 and envelope v2; other bits are refused.
const flagProof = 0x01

const maxShort = math.MaxUint8 // bytes: the maximum of a u8 length

// Message is the content of a TCP authentication, in either format. An opened
// Message owns its memory. (TCP frame v1, TCP envelope v2.)
type Message struct {
	WantProof  bool   // the client requests a server proof
	Time       int64  // Unix milliseconds, not negative; the caller checks that it is fresh
	Method     string // at most 255 bytes; unchecked: clients send "" or "tcp-auth"
	SessionID  []byte // at most 255 bytes; binds the connection to the knock with the same ID
	Extensions []byte // opaque
}

// size returns the message's size in a plaintext: three lengths and their
// fields.
func (m *Message) size() int {
	return 1 + len(m.Method) + 1 + len(m.SessionID) + 2 + len(m.Extensions)
}

// check returns ErrContent or ErrTooLong if the message cannot be encoded.
func (m *Message) check() error {
	switch {
	case m.Time < 0:
		return ErrContent
	case len(m.Method) > maxShort, len(m.SessionID) > maxShort, len(m.Extensions) > math.MaxUint16:
		return ErrTooLong
	}
	return nil
}

func (m *Message) flags() byte {
	if m.WantProof {
		return flagProof
	}
	return 0
}

// append appends the three variable fields, which both formats share.
func (m *Message) append(dst []byte) []byte {
	dst = appendShort(dst, m.Method)
	dst = appendShort(dst, m.SessionID)
	return appendLong(dst, m.Extensions)
}

// sameHash reports whether a sealed client hash is the expected one, in
// constant time.
func sameHash(sealed []byte, want *[clientHashSize]byte) bool {
	return subtle.ConstantTimeCompare(sealed, want[:]) == 1
}
