package protocol

import (
	"crypto/subtle"
	"encoding/binary"
	"io"

	"golang.org/x/crypto/chacha20poly1305"
)

// A knock udp-v2 is one datagram of exactly this form. Every byte is uniformly
// random without the secret:
//
//	0        10        34                              128
//	hint[10] nonce[24] sealed ...                        |
//
// Hint and key are MACs of one context, which is not on the wire: client ID,
// gateway, port, slot. Neither depends on the nonce. So a receiver knows the
// hints in advance and finds the client of a knock with one table lookup, whose
// cost does not depend on the number of clients. (docs/udp-v2.md)
const (
	// KnockV2Size is the size of every knock udp-v2 in bytes: below the MTU of
	// any path, equal to a bucket of the envelopes, and 16 more than the
	// current fields need.
	KnockV2Size = 128
	// KnockV2Nonce is the size in bytes of the nonce, the replay key of a knock.
	KnockV2Nonce = chacha20poly1305.NonceSizeX
	// MaxGateway is the maximum length of a gateway's identity, in bytes.
	MaxGateway = 255

	knockV2HintSize = 10 // as many bits as a SYN knock, which may share a receiver's table
	knockV2Sealed   = knockV2HintSize + KnockV2Nonce
	knockV2Plain    = KnockV2Size - knockV2Sealed - tagSize
	knockV2Check    = clientHashSize // the sealed part of the tag

	labelKnockV2Tag = "knockgw udp-v2 tag"
	labelKnockV2Key = "knockgw udp-v2 key"
	labelKnockV2AAD = "knockgw udp-v2"
)

// HintV2 is the start of every knock of one client, for one port of one
// gateway, in one slot. It is a map key: a receiver keeps the hints of the
// slots -1, 0 and +1 in a table and looks datagrams up. The lookup need not
// take constant time: a hint is no secret once it has been sent, and
// authenticates nothing.
type HintV2 [knockV2HintSize]byte

// KnockV2 is a datagram of the right size, interpreted as a knock udp-v2, still
// sealed. It borrows the datagram. (docs/udp-v2.md, Format.)
type KnockV2 struct {
	raw *[KnockV2Size]byte
}

// ParseKnockV2 interprets b, the payload of a datagram, as a knock. Random
// bytes permit no check but that of their number: it returns ErrMalformed
// unless there are KnockV2Size. The knock borrows b.
func ParseKnockV2(b []byte) (KnockV2, error) {
	if len(b) != KnockV2Size {
		return KnockV2{}, ErrMalformed
	}
	return KnockV2{raw: (*[KnockV2Size]byte)(b)}, nil
}

// Hint returns the key for looking up the knock.
func (k *KnockV2) Hint() HintV2 { return HintV2(k.raw[:knockV2HintSize]) }

// Nonce returns the knock's replay key: 24 bytes, borrowed.
func (k *KnockV2) Nonce() []byte { return k.raw[knockV2HintSize:knockV2Sealed:knockV2Sealed] }

// KnockV2Hint returns the hint of c's knocks for port of the gateway in slot
// (see [Slot]). It computes one HMAC. gateway is the gateway's identity, at
// most MaxGateway bytes; there are no knocks for longer ones.
func (c *Client) KnockV2Hint(s *Scratch, gateway string, port uint16, slot int64) HintV2 {
	return HintV2(s.knockV2MAC(c, labelKnockV2Tag, gateway, port, slot)[:knockV2HintSize])
}

// Open opens the knock as c's, for port of the gateway in slot, which are those
// of its hint in the table. It checks that the message is consistent and
// returns ErrSealed, ErrPort, ErrClientHash or ErrContent, and ErrTooLong if
// gateway exceeds MaxGateway. It checks neither the time, nor the replay key,
// nor whether the service accepts a missing session ID, nor the source of the
// knock: call AllowsSource before claiming the replay key. (docs/udp-v2.md,
// Receiving.)
func (k *KnockV2) Open(s *Scratch, c *Client, gateway string, port uint16, slot int64) (KnockV2Message, error) {
	if len(gateway) > MaxGateway {
		return KnockV2Message{}, ErrTooLong
	}
	tag := s.knockV2MAC(c, labelKnockV2Tag, gateway, port, slot)
	if subtle.ConstantTimeCompare(tag[:knockV2HintSize], k.raw[:knockV2HintSize]) != 1 {
		return KnockV2Message{}, ErrSealed // the hint of another client or slot
	}
	check := knockV2CheckOf(tag)
	aead, err := chacha20poly1305.NewX(s.knockV2MAC(c, labelKnockV2Key, gateway, port, slot))
	if err != nil {
		return KnockV2Message{}, ErrCipher
	}
	plain, err := aead.Open(s.plain[:0], k.Nonce(), k.raw[knockV2Sealed:], k.aad(s, gateway, port, slot))
	if err != nil {
		return KnockV2Message{}, ErrSealed
	}
	return parseKnockV2Message(plain, &check, port)
}

// AppendKnockV2 appends a knock from c, for port of the gateway in slot, to
// dst: KnockV2Size bytes. It reads 24 bytes, the nonce, from rand. Take slot
// and m.Time from one reading of the clock. It returns ErrContent if m violates
// a rule that Open checks, ErrTooLong if gateway exceeds MaxGateway, or an
// error of rand.
func AppendKnockV2(dst []byte, c *Client, gateway string, port uint16, slot int64, m *KnockV2Message, rand io.Reader) ([]byte, error) {
	if len(gateway) > MaxGateway {
		return dst, ErrTooLong
	}
	if err := m.check(); err != nil {
		return dst, err
	}
	k := KnockV2{raw: new([KnockV2Size]byte)}
	if _, err := io.ReadFull(rand, k.Nonce()); err != nil {
		return dst, err
	}
	s := NewScratch()
	tag := s.knockV2MAC(c, labelKnockV2Tag, gateway, port, slot)
	copy(k.raw[:], tag[:knockV2HintSize])
	check := knockV2CheckOf(tag)

	aead, err := chacha20poly1305.NewX(s.knockV2MAC(c, labelKnockV2Key, gateway, port, slot))
	if err != nil {
		return dst, ErrCipher
	}
	plain := m.append(s.plain[:0], &check, port)
	aead.Seal(k.raw[:knockV2Sealed], k.Nonce(), plain, k.aad(s, gateway, port, slot))
	return append(dst, k.raw[:]...), nil
}

// knockV2MAC returns H(label || u16 len, client_id || context), valid until the
// next MAC. Tag and key differ in the label only.
func (s *Scratch) knockV2MAC(c *Client, label, gateway string, port uint16, slot int64) []byte {
	s.msg = appendKnockV2Context(s.msg[:0], gateway, port, slot)
	return s.synTag(c, label)
}

// knockV2CheckOf returns the part of a tag after the hint, which is never on
// the wire in the clear.
func knockV2CheckOf(tag []byte) [knockV2Check]byte {
	return [knockV2Check]byte(tag[knockV2HintSize:])
}

// aad returns the associated data, in s: the hint, and values that are not on
// the wire.
func (k *KnockV2) aad(s *Scratch, gateway string, port uint16, slot int64) []byte {
	s.aad = append(s.aad[:0], labelKnockV2AAD...)
	s.aad = append(s.aad, k.raw[:knockV2HintSize]...)
	s.aad = appendKnockV2Context(s.aad, gateway, port, slot)
	return s.aad
}

// appendKnockV2Context appends u16 len, gateway || u16 port || i64 slot.
func appendKnockV2Context(dst []byte, gateway string, port uint16, slot int64) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(gateway)))
	dst = append(dst, gateway...)
	dst = binary.BigEndian.AppendUint16(dst, port)
	return binary.BigEndian.AppendUint64(dst, uint64(slot))
}
