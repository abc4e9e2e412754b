package protocol

import (
	"crypto/subtle"
	"encoding/binary"
	"io"
	"math"

	"golang.org/x/crypto/chacha20poly1305"
)

// Frame v1, on the wire:
//
//	0    1     2        3          19         27          29
//	0x01 flags reserved nonce[16]  hint[8]    sealed_len  sealed ...
//	                    '--- 24-byte nonce ---'
//	'------------------- associated data -----------------'
const (
	// FrameV1Version is the first byte of a frame v1, and of no envelope v2
	// that a client builds.
	FrameV1Version = 0x01
	// FrameV1Header is the header's size in bytes: the number to read before the
	// frame's size is known.
	FrameV1Header = 29
	// DefaultMaxFrame is the largest message, header included, that a receiver
	// accepts by default.
	DefaultMaxFrame = 1024
	// TCPNonceV1 is the size in bytes of the nonce of a frame v1, its replay
	// key.
	TCPNonceV1 = 16

	v1Flags    = 1
	v1Reserved = 2
	v1Nonce    = 3
	v1Hint     = v1Nonce + TCPNonceV1
	v1Length   = v1Hint + hintSize

	// v1MinSealed is the sealed size of the shortest message: hash, time, port
	// and three zero lengths.
	v1MinSealed = clientHashSize + timeSize + portSize + 1 + 1 + 2 + tagSize

	labelHintV1 = "hint"
	labelKeyV1  = "libknock aead v1"
)

// FrameV1 is a frame v1 with a checked header and sealed content. It borrows
// the bytes that it was parsed from. (TCP frame v1.)
type FrameV1 struct {
	header []byte // FrameV1Header bytes
	sealed []byte
}

// ParseFrameV1 checks the header of a frame v1 at the start of b and finds its
// end. maxSize is the maximum size of a frame, header included, in bytes
// (DefaultMaxFrame unless configured). If err is nil, size is the frame's size
// in bytes; if it is ErrNeedMore, size is how many bytes b must have: first
// FrameV1Header, then the whole frame. Other errors are ErrMalformed and
// ErrTooLong, as soon as the header is complete. f borrows b; bytes after the
// frame are ignored.
func ParseFrameV1(b []byte, maxSize int) (f FrameV1, size int, err error) {
	if len(b) < FrameV1Header {
		return FrameV1{}, FrameV1Header, ErrNeedMore
	}
	sealed := int(binary.BigEndian.Uint16(b[v1Length:]))
	switch {
	case b[0] != FrameV1Version, b[v1Flags]&^flagProof != 0, b[v1Reserved] != 0, sealed < v1MinSealed:
		return FrameV1{}, 0, ErrMalformed
	case FrameV1Header+sealed > maxSize:
		return FrameV1{}, 0, ErrTooLong
	}
	size = FrameV1Header + sealed
	if len(b) < size {
		return FrameV1{}, size, ErrNeedMore
	}
	return FrameV1{header: b[:FrameV1Header:FrameV1Header], sealed: b[FrameV1Header:size:size]}, size, nil
}

// Nonce returns the frame's replay key: 16 bytes, borrowed.
func (f *FrameV1) Nonce() []byte { return f.header[v1Nonce:v1Hint:v1Hint] }

func (f *FrameV1) hint() []byte { return f.header[v1Hint:v1Length:v1Length] }

// Match reports, in constant time, whether the frame's hint is that of c for
// port.
func (f *FrameV1) Match(s *Scratch, c *Client, port uint16) bool {
	s.hintMessage(labelHintV1, f.Nonce(), port)
	return subtle.ConstantTimeCompare(s.mac(&c.states)[:hintSize], f.hint()) == 1
}

// Open opens the frame as c's for port. The Message is a copy. It returns
// ErrSealed, ErrPort, ErrClientHash or ErrContent. It checks neither the time
// nor for replays.
func (f *FrameV1) Open(s *Scratch, c *Client, port uint16) (Message, error) {
	aead, err := chacha20poly1305.NewX(f.key(s, c))
	if err != nil {
		return Message{}, ErrCipher
	}
	plain, err := aead.Open(s.plain[:0], f.header[v1Nonce:v1Length], f.sealed, f.header)
	if err != nil {
		return Message{}, ErrSealed
	}

	in := cursor{rest: plain}
	hash, ms, sealedPort := in.take(clientHashSize), in.millis(), in.u16()
	method, session, extensions := in.short(), in.short(), in.long()
	switch {
	case in.bad || len(in.rest) != 0:
		return Message{}, ErrContent
	case sealedPort != port:
		return Message{}, ErrPort
	case !sameHash(hash, &c.tcpHash):
		return Message{}, ErrClientHash
	}
	return Message{
		WantProof:  f.header[v1Flags]&flagProof != 0,
		Time:       ms,
		Method:     methodText(method),
		SessionID:  owned(session),
		Extensions: owned(extensions),
	}, nil
}

// key returns the frame's AEAD key, in s.
func (f *FrameV1) key(s *Scratch, c *Client) []byte {
	s.msg = append(s.msg[:0], labelKeyV1...)
	s.msg = append(s.msg, f.hint()...)
	return s.hkdf(c.secret, f.Nonce())
}

// AppendProof appends the server's proof for the frame: ProofSize bytes.
// (Server proof.)
func (f *FrameV1) AppendProof(dst []byte, s *Scratch, c *Client, port uint16) []byte {
	return appendProof(dst, s, c, FrameV1Version, labelProofV1, f.Nonce(), f.hint(), port)
}

// VerifyProof reports, in constant time, whether proof is the server's for the
// frame.
func (f *FrameV1) VerifyProof(s *Scratch, c *Client, port uint16, proof []byte) bool {
	var want [ProofSize]byte
	return sameProof(proof, f.AppendProof(want[:0], s, c, port))
}

// AppendFrameV1 appends a frame v1 from c for port to dst. It reads 16 bytes,
// the nonce, from rand. It returns ErrTooLong if m does not fit its fields (a
// receiver may accept less, see DefaultMaxFrame), ErrContent if its time is
// negative, or an error of rand.
func AppendFrameV1(dst []byte, c *Client, port uint16, m *Message, rand io.Reader) ([]byte, error) {
	if err := m.check(); err != nil {
		return dst, err
	}
	sealed := clientHashSize + timeSize + portSize + m.size() + tagSize
	if sealed > math.MaxUint16 {
		return dst, ErrTooLong
	}
	f := FrameV1{header: make([]byte, FrameV1Header)}
	f.header[0] = FrameV1Version
	f.header[v1Flags] = m.flags()
	if _, err := io.ReadFull(rand, f.Nonce()); err != nil {
		return dst, err
	}
	binary.BigEndian.PutUint16(f.header[v1Length:], uint16(sealed))
	s := NewScratch()
	s.hintMessage(labelHintV1, f.Nonce(), port)
	copy(f.hint(), s.mac(&c.states))

	aead, err := chacha20poly1305.NewX(f.key(s, c))
	if err != nil {
		return dst, ErrCipher
	}
	plain := append(s.plain[:0], c.tcpHash[:]...)
	plain = binary.BigEndian.AppendUint64(plain, uint64(m.Time))
	plain = binary.BigEndian.AppendUint16(plain, port)
	plain = m.append(plain)
	dst = append(dst, f.header...)
	return aead.Seal(dst, f.header[v1Nonce:v1Length], plain, f.header), nil
}
