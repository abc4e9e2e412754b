package protocol

import (
	"encoding/binary"
	"math"
)

// cursor reads fields from the front of opened plaintext. The first missing
// field sets bad permanently, and all later fields are zero, so that a parser
// checks once at the end.
type cursor struct {
	rest []byte
	bad  bool
}

// take returns the next n bytes, borrowed.
func (c *cursor) take(n int) []byte {
	if c.bad || n > len(c.rest) {
		c.bad = true
		return nil
	}
	field := c.rest[:n:n]
	c.rest = c.rest[n:]
	return field
}

func (c *cursor) u8() byte {
	if field := c.take(1); field != nil {
		return field[0]
	}
	return 0
}

func (c *cursor) u16() uint16 {
	if field := c.take(2); field != nil {
		return binary.BigEndian.Uint16(field)
	}
	return 0
}

// millis reads Unix milliseconds. A time that exceeds an int64 is invalid.
func (c *cursor) millis() int64 {
	field := c.take(timeSize)
	if field == nil {
		return 0
	}
	ms := binary.BigEndian.Uint64(field)
	if ms > math.MaxInt64 {
		c.bad = true
		return 0
	}
	return int64(ms)
}

// short reads u8 len || bytes, borrowed.
func (c *cursor) short() []byte { return c.take(int(c.u8())) }

// long reads u16 len || bytes, borrowed.
func (c *cursor) long() []byte { return c.take(int(c.u16())) }

// appendShort appends u8 len || field, for fields that were checked to fit.
func appendShort[T string | []byte](dst []byte, field T) []byte {
	return append(append(dst, byte(len(field))), field...)
}

// appendLong appends u16 len || field, for fields that were checked to fit.
func appendLong(dst, field []byte) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(field))), field...)
}

// owned returns a copy of field; nil if it is empty.
func owned(field []byte) []byte {
	return append([]byte(nil), field...)
}
