package protocol

import (
	"crypto/subtle"
	"encoding/binary"
	"net/netip"
)

// The plaintext of a knock udp-v2 has one length and layout, whatever its
// content. A flag is set if and only if its field is not zero, and reserved
// bytes are zero, so that every message has one encoding:
//
//	0       1     2       10        26   28          44         60          62             78
//	version flags unix_ms check[16] port session[16] source[16] source_port reserved[16]    |
//
// check is the part of the tag after the hint: it depends on client, gateway,
// port and slot.
const (
	knockV2Version = 0x02

	knockV2FlagSession    = 0x01
	knockV2FlagSource     = 0x02
	knockV2FlagSourcePort = 0x04

	sessionV2Size   = MinSessionID
	sourceV2Size    = 16 // an IPv6 address, or an IPv4 one mapped into IPv6
	knockV2Reserved = knockV2Plain - 1 - 1 - timeSize - knockV2Check - portSize - sessionV2Size - sourceV2Size - portSize
)

// KnockV2Message is the content of a knock udp-v2. It has no pointers into the
// datagram and compares with ==. (docs/udp-v2.md, Format.)
type KnockV2Message struct {
	Time      int64               // Unix milliseconds, not negative; the caller checks that it is fresh
	SessionID [sessionV2Size]byte // random, as in the TCP authentication that follows; zero: none

	// Source, if valid, is the only address that the knock may come from and be
	// for: the client's, as the gateway sees it. It has no zone, is not
	// unspecified, and is never IPv4-mapped in an opened message.
	Source netip.Addr
	// SourcePort, if not 0, is the only TCP source port that the knock admits,
	// as the gateway sees it.
	SourcePort uint16
}

// Session returns the session ID, borrowed, or nil if there is none.
func (m *KnockV2Message) Session() []byte {
	if m.SessionID == [sessionV2Size]byte{} {
		return nil
	}
	return m.SessionID[:]
}

// AllowsSource reports, in constant time, whether the knock may come from
// source: the address that it is bound to, if any. IPv4-mapped addresses are
// IPv4.
func (m *KnockV2Message) AllowsSource(source netip.Addr) bool {
	if !m.Source.IsValid() {
		return true
	}
	want, got := m.Source.As16(), source.As16() // an invalid source is zero, unlike Source
	return subtle.ConstantTimeCompare(want[:], got[:]) == 1
}

// AllowsSourcePort reports, in constant time, whether the knock admits a SYN
// from TCP port port: the port that it is bound to, if any.
func (m *KnockV2Message) AllowsSourcePort(port uint16) bool {
	return m.SourcePort == 0 || subtle.ConstantTimeEq(int32(m.SourcePort), int32(port)) == 1
}

// check applies the consistency rules, before encoding and after decoding.
func (m *KnockV2Message) check() error {
	source := m.Source.Unmap()
	if m.Time < 0 || source.Zone() != "" || source.IsUnspecified() {
		return ErrContent
	}
	return nil
}

// flags returns the flags, which follow from the content.
func (m *KnockV2Message) flags() byte {
	var flags byte
	if m.Session() != nil {
		flags |= knockV2FlagSession
	}
	if m.Source.IsValid() {
		flags |= knockV2FlagSource
	}
	if m.SourcePort != 0 {
		flags |= knockV2FlagSourcePort
	}
	return flags
}

// append appends the plaintext of a message that passed check.
func (m *KnockV2Message) append(dst []byte, check *[knockV2Check]byte, port uint16) []byte {
	var source [sourceV2Size]byte
	if m.Source.IsValid() {
		source = m.Source.As16()
	}
	dst = append(dst, knockV2Version, m.flags())
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.Time))
	dst = append(dst, check[:]...)
	dst = binary.BigEndian.AppendUint16(dst, port)
	dst = append(dst, m.SessionID[:]...)
	dst = append(dst, source[:]...)
	dst = binary.BigEndian.AppendUint16(dst, m.SourcePort)
	return append(dst, make([]byte, knockV2Reserved)...)
}

// parseKnockV2Message parses an opened knock.
func parseKnockV2Message(plain []byte, check *[knockV2Check]byte, port uint16) (KnockV2Message, error) {
	in := cursor{rest: plain}
	version, flags, ms, sealedCheck := in.u8(), in.u8(), in.millis(), in.take(knockV2Check)
	sealedPort, session, source := in.u16(), in.take(sessionV2Size), in.take(sourceV2Size)
	sourcePort, reserved := in.u16(), in.take(knockV2Reserved)
	switch {
	case in.bad || len(in.rest) != 0 || version != knockV2Version || [knockV2Reserved]byte(reserved) != [knockV2Reserved]byte{}:
		return KnockV2Message{}, ErrContent
	case sealedPort != port:
		return KnockV2Message{}, ErrPort
	case !sameHash(sealedCheck, check):
		return KnockV2Message{}, ErrClientHash
	}
	m := KnockV2Message{Time: ms, SessionID: [sessionV2Size]byte(session), SourcePort: sourcePort}
	if address := [sourceV2Size]byte(source); address != [sourceV2Size]byte{} {
		m.Source = netip.AddrFrom16(address).Unmap()
	}
	if m.check() != nil || m.flags() != flags {
		return KnockV2Message{}, ErrContent
	}
	return m, nil
}
