package protocol

import (
	"crypto/subtle"
	"encoding/binary"
	"io"
	"math"

	"golang.org/x/crypto/chacha20poly1305"
)

// HintMode selects whether envelopes have a route hint. It is configured on
// both sides and is not on the wire. (TCP envelope v2.)
type HintMode string

// The hint modes. The empty HintMode means HintRoute, the default.
const (
	HintRoute HintMode = "route-hint" // eight bytes find the client: one HMAC per candidate
	HintNone  HintMode = "none"       // no hint: one decryption per candidate and bucket
)

// Valid reports whether h is one of the hint modes or empty.
func (h HintMode) Valid() bool { return h == "" || h == HintRoute || h == HintNone }

// size returns the number of hint bytes on the wire.
func (h HintMode) size() int {
	if h == HintNone {
		return 0
	}
	return hintSize
}

// An envelope v2 is exactly one bucket long and uniformly random without the
// secret:
//
//	0          24             32
//	prefix[24] [route_hint[8]] sealed ...                                  bucket
//	'-------- associated data, with bucket, port and a label
const (
	// EnvelopePrefix is the size in bytes of the random prefix, the replay key
	// of an envelope.
	EnvelopePrefix = 24

	v2Version = 0x02 // first byte of the plaintext and of the proof; never on the wire in the clear

	// v2Fixed is the plaintext before the variable fields: version, flags,
	// time, hash, port.
	v2Fixed = 1 + 1 + timeSize + clientHashSize + portSize
	// v2PadLength is the u16 pad_len after the variable fields.
	v2PadLength = 2
	// v2Shortest is the shortest plaintext: three empty fields and no pad.
	v2Shortest = v2Fixed + 1 + 1 + 2 + v2PadLength

	labelHintV2 = "libknock tcp-auth hint v2"
	labelKeyV2  = "libknock tcp-auth envelope v2"
	labelAADV2  = "tcp-auth-envelope-v2"
)

// EnvelopeV2 is the start of a stream, interpreted as an envelope v2, still
// sealed. It borrows the bytes that it was parsed from. (TCP envelope v2.)
type EnvelopeV2 struct {
	raw  []byte // at least the prefix and the route hint
	hint HintMode
}

// ParseEnvelopeV2 interprets b as the start of an envelope. Random bytes permit
// no check but that of their number: if b is shorter than prefix and hint, it
// returns ErrNeedMore, and need is the number of bytes required. b may be
// shorter than a bucket: Match works, and Open returns ErrNeedMore. The
// envelope borrows b.
func ParseEnvelopeV2(b []byte, hint HintMode) (e EnvelopeV2, need int, err error) {
	need = EnvelopePrefix + hint.size()
	if len(b) < need {
		return EnvelopeV2{}, need, ErrNeedMore
	}
	return EnvelopeV2{raw: b, hint: hint}, need, nil
}

// Nonce returns the envelope's replay key: its 24-byte prefix, borrowed.
func (e *EnvelopeV2) Nonce() []byte { return e.raw[:EnvelopePrefix:EnvelopePrefix] }

// head returns the prefix and the route hint, if any.
func (e *EnvelopeV2) head() []byte {
	n := EnvelopePrefix + e.hint.size()
	return e.raw[:n:n]
}

// Match reports, in constant time, whether the route hint is that of c for
// port. In HintNone every client matches, and Open decides.
func (e *EnvelopeV2) Match(s *Scratch, c *Client, port uint16) bool {
	if e.hint == HintNone {
		return true
	}
	s.hintMessage(labelHintV2, e.Nonce(), port)
	return subtle.ConstantTimeCompare(s.mac(&c.states)[:hintSize], e.head()[EnvelopePrefix:]) == 1
}

// Open opens the first bucket bytes as c's envelope for port. The Message is a
// copy. A receiver does not know the bucket and tries each, in ascending order,
// as the bytes arrive; the bytes after the one that opens belong to the
// application. Open returns ErrNeedMore if fewer bytes were parsed, and
// ErrMalformed, ErrSealed, ErrPort, ErrClientHash or ErrContent. It checks
// neither the time nor for replays.
func (e *EnvelopeV2) Open(s *Scratch, c *Client, port uint16, bucket int) (Message, error) {
	switch {
	case bucket < MinBucket(e.hint) || bucket > MaxBucket:
		return Message{}, ErrMalformed
	case len(e.raw) < bucket:
		return Message{}, ErrNeedMore
	}
	aead, err := chacha20poly1305.NewX(e.key(s, c))
	if err != nil {
		return Message{}, ErrCipher
	}
	head := e.head()
	plain, err := aead.Open(s.plain[:0], e.Nonce(), e.raw[len(head):bucket], e.aad(s, port, bucket))
	if err != nil {
		return Message{}, ErrSealed
	}

	in := cursor{rest: plain}
	version, flags, ms := in.u8(), in.u8(), in.millis()
	hash, sealedPort := in.take(clientHashSize), in.u16()
	method, session, extensions := in.short(), in.short(), in.long()
	in.long() // the padding: unchecked, but it must be all the rest
	switch {
	case in.bad || len(in.rest) != 0 || version != v2Version || flags&^flagProof != 0:
		return Message{}, ErrContent
	case sealedPort != port:
		return Message{}, ErrPort
	case !sameHash(hash, &c.tcpHash):
		return Message{}, ErrClientHash
	}
	return Message{
		WantProof:  flags&flagProof != 0,
		Time:       ms,
		Method:     methodText(method),
		SessionID:  owned(session),
		Extensions: owned(extensions),
	}, nil
}

// key returns the envelope's AEAD key, in s. It does not depend on the bucket.
func (e *EnvelopeV2) key(s *Scratch, c *Client) []byte {
	s.msg = append(s.msg[:0], labelKeyV2...)
	return s.hkdf(c.secret, e.Nonce())
}

// aad returns the associated data, in s: the head, and values that are not on
// the wire.
func (e *EnvelopeV2) aad(s *Scratch, port uint16, bucket int) []byte {
	s.aad = append(s.aad[:0], e.head()...)
	s.aad = binary.BigEndian.AppendUint16(s.aad, uint16(bucket))
	s.aad = binary.BigEndian.AppendUint16(s.aad, port)
	s.aad = append(s.aad, labelAADV2...)
	return s.aad
}

// AppendProof appends the server's proof for the envelope: ProofSize bytes. In
// HintNone, eight zero bytes replace the route hint. (Server proof.)
func (e *EnvelopeV2) AppendProof(dst []byte, s *Scratch, c *Client, port uint16) []byte {
	var none [hintSize]byte
	hint := none[:]
	if e.hint != HintNone {
		hint = e.head()[EnvelopePrefix:]
	}
	return appendProof(dst, s, c, v2Version, labelProofV2, e.Nonce(), hint, port)
}

// VerifyProof reports, in constant time, whether proof is the server's for the
// envelope.
func (e *EnvelopeV2) VerifyProof(s *Scratch, c *Client, port uint16, proof []byte) bool {
	var want [ProofSize]byte
	return sameProof(proof, e.AppendProof(want[:0], s, c, port))
}

// AppendEnvelopeV2 appends an envelope of exactly bucket bytes from c for port
// to dst. It reads from rand the prefix (24 bytes, then one more while the
// first byte is FrameV1Version, which a receiver of both formats would take for
// a frame v1), then the padding. It returns ErrNoBucket if m does not fit the
// bucket, ErrContent or ErrTooLong if m cannot be encoded, or an error of rand.
func AppendEnvelopeV2(dst []byte, c *Client, port uint16, m *Message, hint HintMode, bucket int, rand io.Reader) ([]byte, error) {
	if err := m.check(); err != nil {
		return dst, err
	}
	pad := bucket - envelopeSize(m, hint)
	if pad < 0 || bucket > MaxBucket {
		return dst, ErrNoBucket
	}
	e := EnvelopeV2{raw: make([]byte, EnvelopePrefix+hint.size()), hint: hint}
	prefix := e.Nonce()
	if _, err := io.ReadFull(rand, prefix); err != nil {
		return dst, err
	}
	for prefix[0] == FrameV1Version {
		if _, err := io.ReadFull(rand, prefix[:1]); err != nil {
			return dst, err
		}
	}

	s := NewScratch()
	if hint != HintNone {
		s.hintMessage(labelHintV2, prefix, port)
		copy(e.head()[EnvelopePrefix:], s.mac(&c.states))
	}
	plain := append(s.plain[:0], v2Version, m.flags())
	plain = binary.BigEndian.AppendUint64(plain, uint64(m.Time))
	plain = append(plain, c.tcpHash[:]...)
	plain = binary.BigEndian.AppendUint16(plain, port)
	plain = m.append(plain)
	plain = binary.BigEndian.AppendUint16(plain, uint16(pad))
	at := len(plain)
	plain = append(plain, make([]byte, pad)...)
	if _, err := io.ReadFull(rand, plain[at:]); err != nil {
		return dst, err
	}

	aead, err := chacha20poly1305.NewX(e.key(s, c))
	if err != nil {
		return dst, ErrCipher
	}
	dst = append(dst, e.raw...)
	return aead.Seal(dst, prefix, plain, e.aad(s, port, bucket)), nil
}

// envelopeSize returns the size in bytes of the smallest envelope for m.
func envelopeSize(m *Message, hint HintMode) int {
	return EnvelopePrefix + hint.size() + v2Fixed + m.size() + v2PadLength + tagSize
}

// MaxBucket is the largest bucket, in bytes: a u16 in the associated data.
const MaxBucket = math.MaxUint16

// MinBucket returns the size of the smallest bucket for any message, in bytes.
func MinBucket(hint HintMode) int {
	return EnvelopePrefix + hint.size() + v2Shortest + tagSize
}
