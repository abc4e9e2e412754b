package protocol

import (
	"encoding/binary"
	"math"
)

// Limits of a knock's content. (UDP knock v1, Sequences.)
const (
	MinSessionID = 16 // bytes of a session ID, if there is one: too many to guess
	MaxSessionID = 255
	SequenceID   = 16 // bytes of a sequence ID
	MinSequence  = 2  // parts: one part is a single knock
	MaxSequence  = 8  // parts

	clientRandom = 16 // bytes that AppendKnock reads

	typeSingle   = 1
	typeSequence = 2
)

// KnockMessage is the content of a knock. An opened KnockMessage owns its
// memory. (UDP knock v1.)
type KnockMessage struct {
	Method    string // 1 to 255 bytes; compare its MethodFamily with those of the service
	Time      int64  // Unix milliseconds, not negative; the caller checks that it is fresh
	SessionID []byte // empty, or 16 to 255 bytes

	// A part of a sequence has a sequence ID of 16 bytes, which all parts
	// share, a Total of 2 to 8, and an Index below it. In a single knock all
	// three are zero.
	SequenceID   []byte
	Index, Total uint8

	ClientRandom []byte // 0 to 255 bytes; AppendKnock reads 16 if it is nil
	TLVs         []TLV  // extensions; unknown types are ignored
}

// TLV is an extension of a knock.
type TLV struct {
	Type  uint16
	Value []byte // at most 65535 bytes, and within MaxKnock
}

// Sequence reports whether the knock is a part of a sequence.
func (m *KnockMessage) Sequence() bool { return m.Total != 0 }

// check applies the consistency rules, before encoding and after decoding.
func (m *KnockMessage) check() error {
	session := len(m.SessionID)
	switch {
	case m.Time < 0, m.Method == "", session != 0 && session < MinSessionID:
		return ErrContent
	case len(m.Method) > maxShort, session > MaxSessionID, len(m.ClientRandom) > maxShort:
		return ErrTooLong
	}
	if m.Sequence() {
		if len(m.SequenceID) != SequenceID || m.Total < MinSequence || m.Total > MaxSequence || m.Index >= m.Total {
			return ErrContent
		}
	} else if len(m.SequenceID) != 0 || m.Index != 0 {
		return ErrContent
	}
	size := 0
	for _, tlv := range m.TLVs {
		size += 2 + 2 + len(tlv.Value)
	}
	if size > math.MaxUint16 {
		return ErrTooLong
	}
	return nil
}

// flags returns the header's flags, which follow from the content.
func (m *KnockMessage) flags() byte {
	var flags byte
	if m.Sequence() {
		flags |= flagSequence
	}
	if len(m.SessionID) != 0 {
		flags |= flagSession
	}
	if len(m.TLVs) != 0 {
		flags |= flagExtensions
	}
	return flags
}

// append appends the plaintext of a message that passed check.
func (m *KnockMessage) append(dst []byte, c *Client, port uint16, random []byte) []byte {
	kind := byte(typeSingle)
	if m.Sequence() {
		kind = typeSequence
	}
	dst = append(dst, kind)
	dst = append(dst, c.udpHash[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.Time))
	dst = appendShort(dst, m.Method)
	dst = binary.BigEndian.AppendUint16(dst, port)
	dst = appendShort(dst, m.SessionID)
	dst = appendShort(dst, m.SequenceID)
	dst = append(dst, m.Index, m.Total)
	dst = appendShort(dst, random)

	size := 0
	for _, tlv := range m.TLVs {
		size += 2 + 2 + len(tlv.Value)
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(size))
	for _, tlv := range m.TLVs {
		dst = binary.BigEndian.AppendUint16(dst, tlv.Type)
		dst = appendLong(dst, tlv.Value)
	}
	return dst
}

// parseKnockMessage parses an opened knock and copies its content.
func parseKnockMessage(plain []byte, flags byte, c *Client, port uint16) (KnockMessage, error) {
	in := cursor{rest: plain}
	kind, hash, ms, method := in.u8(), in.take(clientHashSize), in.millis(), in.short()
	sealedPort, session, sequence := in.u16(), in.short(), in.short()
	index, total, random, extensions := in.u8(), in.u8(), in.short(), in.long()
	tlvs := cursor{rest: extensions}
	count := 0
	for !tlvs.bad && len(tlvs.rest) > 0 {
		tlvs.u16()
		tlvs.long()
		count++
	}

	switch {
	case in.bad || len(in.rest) != 0 || tlvs.bad:
		return KnockMessage{}, ErrContent
	case sealedPort != port:
		return KnockMessage{}, ErrPort
	case !sameHash(hash, &c.udpHash):
		return KnockMessage{}, ErrClientHash
	case kind != typeSingle && kind != typeSequence, (kind == typeSequence) != (total != 0):
		return KnockMessage{}, ErrContent
	}

	m := KnockMessage{
		Method:       methodText(method),
		Time:         ms,
		SessionID:    owned(session),
		SequenceID:   owned(sequence),
		Index:        index,
		Total:        total,
		ClientRandom: append([]byte{}, random...), // not nil, so that encoding it again reads nothing from rand
	}
	if count > 0 {
		m.TLVs = make([]TLV, 0, count)
		tlvs = cursor{rest: append([]byte(nil), extensions...)}
		for len(tlvs.rest) > 0 {
			m.TLVs = append(m.TLVs, TLV{Type: tlvs.u16(), Value: tlvs.long()})
		}
	}
	if m.check() != nil || m.flags() != flags {
		return KnockMessage{}, ErrContent
	}
	return m, nil
}
