package protocol

import (
	"crypto/subtle"
	"encoding/binary"
	"io"

	"golang.org/x/crypto/chacha20poly1305"
)

// A UDP knock is one datagram of exactly this form:
//
//	0         16      24          26    27       28
//	nonce[16] hint[8] sealed_len  flags reserved sealed ...
//	'------------ associated data, with 0x01 and the port
//
// The AEAD is ChaCha20-Poly1305 (RFC 8439) with the first twelve bytes of the
// nonce. Twelve random bytes are few for one key, but the key is derived from
// all sixteen and differs with every knock.
const (
	// KnockHeader is the size of a knock's header in bytes.
	KnockHeader = 28
	// MaxKnock is the maximum size of a knock in bytes, well below the MTU of
	// any path.
	MaxKnock = 1024
	// KnockNonce is the size in bytes of the nonce of a knock, its replay key.
	KnockNonce = 16

	knockHint     = KnockNonce
	knockLength   = knockHint + hintSize
	knockFlags    = knockLength + 2
	knockReserved = knockFlags + 1

	flagSequence   = 0x01
	flagSession    = 0x02
	flagExtensions = 0x04
	knownFlags     = flagSequence | flagSession | flagExtensions

	knockAADVersion = 0x01
	labelHintKnock  = "libknock udp-knock hint v1"
	labelKeyKnock   = "libknock udp-knock frame v1"

	// knockMinSealed is the sealed size of the shortest knock: type, hash,
	// time, a method of one byte, port, and empty session, sequence, index,
	// total, random and TLVs.
	knockMinSealed = 1 + clientHashSize + timeSize + 2 + portSize + 1 + 1 + 1 + 1 + 1 + 2 + tagSize
)

// Knock is a UDP knock with a checked header and sealed content. It borrows the
// datagram. (UDP knock v1.)
type Knock struct {
	header []byte
	sealed []byte
}

// ParseKnock does the checks that need no cryptography: b, the payload of a
// datagram, has the length in its header, at most MaxKnock, and no unknown flag
// or reserved bit. It returns ErrMalformed or ErrTooLong. The knock borrows b.
func ParseKnock(b []byte) (Knock, error) {
	switch {
	case len(b) < KnockHeader+knockMinSealed:
		return Knock{}, ErrMalformed
	case len(b) > MaxKnock:
		return Knock{}, ErrTooLong
	case len(b) != KnockHeader+int(binary.BigEndian.Uint16(b[knockLength:])),
		b[knockFlags]&^knownFlags != 0,
		b[knockReserved] != 0:
		return Knock{}, ErrMalformed
	}
	return Knock{header: b[:KnockHeader:KnockHeader], sealed: b[KnockHeader:len(b):len(b)]}, nil
}

// Nonce returns the knock's replay key: 16 bytes, borrowed.
func (k *Knock) Nonce() []byte { return k.header[:KnockNonce:KnockNonce] }

func (k *Knock) hint() []byte { return k.header[knockHint:knockLength:knockLength] }

// Match reports, in constant time, whether the knock's hint is that of c for
// port.
func (k *Knock) Match(s *Scratch, c *Client, port uint16) bool {
	s.hintMessage(labelHintKnock, k.Nonce(), port)
	return subtle.ConstantTimeCompare(s.mac(&c.states)[:hintSize], k.hint()) == 1
}

// Open opens the knock as c's for port and checks that the message is
// consistent. The KnockMessage is a copy. It returns ErrSealed, ErrPort,
// ErrClientHash or ErrContent. It checks neither the time, nor the replay key,
// nor whether the service accepts the method, a missing session ID or the
// sequence's length.
func (k *Knock) Open(s *Scratch, c *Client, port uint16) (KnockMessage, error) {
	aead, err := chacha20poly1305.New(k.key(s, c))
	if err != nil {
		return KnockMessage{}, ErrCipher
	}
	plain, err := aead.Open(s.plain[:0], k.Nonce()[:chacha20poly1305.NonceSize], k.sealed, k.aad(s, port))
	if err != nil {
		return KnockMessage{}, ErrSealed
	}
	return parseKnockMessage(plain, k.header[knockFlags], c, port)
}

// key returns the knock's AEAD key, in s.
func (k *Knock) key(s *Scratch, c *Client) []byte {
	s.msg = append(s.msg[:0], labelKeyKnock...)
	return s.hkdf(c.secret, k.Nonce())
}

// aad returns the associated data, in s.
func (k *Knock) aad(s *Scratch, port uint16) []byte {
	s.aad = append(s.aad[:0], k.header...)
	s.aad = append(s.aad, knockAADVersion)
	s.aad = binary.BigEndian.AppendUint16(s.aad, port)
	return s.aad
}

// AppendKnock appends a knock from c for port to dst. It reads 16 bytes, the
// nonce, from rand, and 16 more if m.ClientRandom is nil. It returns ErrContent
// if m violates a rule that Open checks, ErrTooLong if the knock would exceed
// MaxKnock or a field its maximum length, or an error of rand.
func AppendKnock(dst []byte, c *Client, port uint16, m *KnockMessage, rand io.Reader) ([]byte, error) {
	if err := m.check(); err != nil {
		return dst, err
	}
	k := Knock{header: make([]byte, KnockHeader)}
	if _, err := io.ReadFull(rand, k.Nonce()); err != nil {
		return dst, err
	}
	random := m.ClientRandom
	if random == nil {
		random = make([]byte, clientRandom)
		if _, err := io.ReadFull(rand, random); err != nil {
			return dst, err
		}
	}
	s := NewScratch()
	plain := m.append(s.plain[:0], c, port, random)
	if KnockHeader+len(plain)+tagSize > MaxKnock {
		return dst, ErrTooLong
	}
	s.hintMessage(labelHintKnock, k.Nonce(), port)
	copy(k.hint(), s.mac(&c.states))
	binary.BigEndian.PutUint16(k.header[knockLength:], uint16(len(plain)+tagSize))
	k.header[knockFlags] = m.flags()

	aead, err := chacha20poly1305.New(k.key(s, c))
	if err != nil {
		return dst, ErrCipher
	}
	dst = append(dst, k.header...)
	return aead.Seal(dst, k.Nonce()[:chacha20poly1305.NonceSize], plain, k.aad(s, port)), nil
}
