package protocol

import (
	"encoding/binary"
	"time"
)

// Limits of a SYN sequence. (TCP SYN sequence.)
const (
	MinSYNSequence = 2 // parts
	MaxSYNSequence = 5 // parts

	// Parts of a legacy sequence go to a port above the reserved ones, modulo
	// this number.
	legacyFirstPort = 1024
	legacyPorts     = 64511

	labelSYN       = "syn-knock"
	labelSYNSeq    = "libknock/tcp-syn-seq/v1"
	labelLegacySeq = "knock-proxy/tcp-syn-seq/v1"

	synPortBytes = 2 // the start of a sequence's tag: the port in the legacy format
)

// SYNFields are the TCP header fields of a SYN knock. They depend only on
// client, port, slot and index: compute them once per slot and use them as a
// map key, so that the cost of a lookup does not depend on the number of
// clients. (TCP SYN knock.)
type SYNFields struct {
	Seq    uint32 // the TCP sequence number
	Window uint16 // the window field, never 0
	TSVal  uint32 // the value of the Timestamps option
}

// Slot returns the number of the time slot of t: Unix seconds divided by whole
// seconds of slot. A slot shorter than a second counts as a second.
func Slot(t time.Time, slot time.Duration) int64 {
	return t.Unix() / max(1, int64(slot/time.Second))
}

// SYN returns the fields of c's SYN knock for port in slot. (TCP SYN knock.)
func (c *Client) SYN(s *Scratch, port uint16, slot int64) SYNFields {
	s.msg = binary.BigEndian.AppendUint16(s.msg[:0], port)
	s.msg = binary.BigEndian.AppendUint64(s.msg, uint64(slot))
	return synFields(s.synTag(c, labelSYN))
}

// SYNPart returns the fields of part index, from 0, of c's SYN sequence for
// port in slot. Its SYN goes to port. (TCP SYN sequence.)
func (c *Client) SYNPart(s *Scratch, port uint16, slot int64, index int) SYNFields {
	return synFields(s.partTag(c, labelSYNSeq, port, slot, index)[synPortBytes:])
}

// SYNPartLegacy is SYNPart in the legacy format, whose SYN goes to the port dst.
func (c *Client) SYNPartLegacy(s *Scratch, port uint16, slot int64, index int) (fields SYNFields, dst uint16) {
	tag := s.partTag(c, labelLegacySeq, port, slot, index)
	dst = legacyFirstPort + binary.BigEndian.Uint16(tag)%legacyPorts
	return synFields(tag[synPortBytes:]), dst
}

func (s *Scratch) partTag(c *Client, label string, port uint16, slot int64, index int) []byte {
	s.msg = binary.BigEndian.AppendUint16(s.msg[:0], port)
	s.msg = binary.BigEndian.AppendUint64(s.msg, uint64(slot))
	s.msg = binary.BigEndian.AppendUint16(s.msg, uint16(index))
	return s.synTag(c, label)
}

// synTag returns H(label || u16 len, client_id || s.msg), valid until the next
// MAC. The ID is hashed without a copy: it may have 64 KiB, more than s.msg can
// hold.
func (s *Scratch) synTag(c *Client, label string) []byte {
	tail := len(s.msg)
	s.msg = append(s.msg, label...)
	s.msg = binary.BigEndian.AppendUint16(s.msg, uint16(len(c.rawID)))
	s.begin(&c.states)
	s.digest.Write(s.msg[tail:])
	s.digest.Write(c.rawID)
	s.digest.Write(s.msg[:tail])
	return s.finish(&c.states)
}

// synFields reads sequence number, window and timestamp from the front of a tag.
func synFields(tag []byte) SYNFields {
	fields := SYNFields{
		Seq:    binary.BigEndian.Uint32(tag[0:]),
		Window: binary.BigEndian.Uint16(tag[4:]),
		TSVal:  binary.BigEndian.Uint32(tag[6:]),
	}
	if fields.Window == 0 {
		fields.Window = 1 // a SYN with a zero window would be conspicuous
	}
	return fields
}
