//go:build linux

package lab

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"

	"github.com/knockgw/knockgw/internal/netlab"
	"github.com/knockgw/knockgw/protocol"
)

// A Form is what a packet of junk looks like.
type Form int

// The forms.
const (
	JunkSYN       Form = iota // a SYN with Timestamps, as SYN knocks are
	JunkACK                   // a segment of no connection
	JunkV1                    // a datagram with all that can be seen of a knock v1
	JunkV2                    // a datagram as large as a knock udp-v2
	JunkDatagram              // a datagram that nothing is like
	JunkFragment              // a piece of a datagram, the first or the last
	JunkIllFormed             // segments and datagrams that are malformed in one of several ways, alternating
)

// A Junk is packets of attackers over IPv4, each with bytes of its own wherever
// a secret would show.
type Junk struct {
	Form Form
	// Sources are the source addresses, in rotation. Without any they seem
	// to come from everywhere in the networks that are set apart for
	// measurements (RFC 2544), at random.
	Sources []netip.Addr
	// To is where they go; port 0 stands for any.
	To netip.AddrPort

	n      int
	random *rand.PCG
}

const (
	ipHeader  = netlab.IPv4Header
	tcpHeader = 32 // NOP, NOP and Timestamps included
	udpHeader = netlab.UDPHeader

	protoTCP, protoUDP = netlab.ProtoTCP, netlab.ProtoUDP

	// sealedV1 is the sealed part of a knock v1 with a session id, more or less.
	sealedV1 = 90
	// smallest is the size of a JunkDatagram's payload: no knock's.
	smallest = 16
)

// next writes the next packet into b and returns its size. Of the IP header the
// kernel fills in the length and the checksum.
func (j *Junk) next(b []byte) int {
	if j.random == nil {
		j.random = rand.NewPCG(rand.Uint64(), rand.Uint64()) //nolint:gosec // junk need not be unguessable
	}
	src := [4]byte{198, 18}
	if len(j.Sources) > 0 {
		src = j.Sources[j.n%len(j.Sources)].As4()
	} else {
		binary.BigEndian.PutUint32(src[:], binary.BigEndian.Uint32(src[:])|uint32(j.random.Uint64())&0x1ffff)
	}
	j.n++

	dst, port := j.To.Addr().As4(), j.To.Port()
	if port == 0 {
		port = uint16(j.random.Uint64()) | 1
	}

	clear(b[:ipHeader+tcpHeader])
	b[0], b[8], b[9] = 4<<4|ipHeader/4, 64, protoUDP
	binary.BigEndian.PutUint16(b[4:], uint16(j.n)|1)
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	h := b[ipHeader:]
	binary.BigEndian.PutUint16(h, uint16(1024+j.random.Uint64()%60000))
	binary.BigEndian.PutUint16(h[2:], port)

	switch j.Form {
	case JunkSYN, JunkACK:
		return j.segment(b, h)
	case JunkFragment:
		n := j.datagram(b, h)
		if j.n%2 == 0 {
			b[6] = 1 << 5 // more of it follows
		} else {
			b[7] = (udpHeader + smallest) / 8 // it begins in the other
		}
		return n
	case JunkIllFormed:
		return j.illFormed(b, h)
	default:
		return j.datagram(b, h)
	}
}

// summed writes the checksum of a packet's TCP or UDP header, which is 0 until
// then, and returns the packet's size.
func summed(packet []byte, at int) int {
	binary.BigEndian.PutUint16(packet[ipHeader+at:], transportChecksum(packet))
	return len(packet)
}

// segment writes a TCP header after the ports and returns the packet's size.
func (j *Junk) segment(b, h []byte) int {
	b[9] = protoTCP
	r := j.random.Uint64()
	binary.BigEndian.PutUint64(h[4:], r) // sequence number, and acknowledgement
	h[12], h[13] = tcpHeader/4<<4, 1<<4  // ACK
	if j.Form == JunkSYN {
		clear(h[8:12])
		h[13] = 1 << 1
	}
	r = j.random.Uint64()
	binary.BigEndian.PutUint16(h[14:], uint16(r)|1)
	copy(h[20:], []byte{1, 1, 8, 10})
	binary.BigEndian.PutUint32(h[24:], uint32(r>>32))
	return summed(b[:ipHeader+tcpHeader], 16)
}

// datagram writes a UDP header after the ports, and what is in the datagram,
// and returns the packet's size.
func (j *Junk) datagram(b, h []byte) int {
	size := smallest
	switch j.Form {
	case JunkV1:
		size = protocol.KnockHeader + sealedV1
	case JunkV2:
		size = protocol.KnockV2Size
	}
	payload := h[udpHeader:]
	for i := 0; i < size; i += 8 {
		binary.LittleEndian.PutUint64(payload[i:], j.random.Uint64())
	}
	if j.Form == JunkV1 {
		binary.BigEndian.PutUint16(payload[24:], sealedV1)
		payload[26], payload[27] = 2, 0 // with a session
	}
	binary.BigEndian.PutUint16(h[4:], uint16(udpHeader+size))
	binary.BigEndian.PutUint16(h[6:], 0)
	return summed(b[:ipHeader+udpHeader+size], 6)
}

// illFormed writes a packet that breaks a rule and returns its size.
func (j *Junk) illFormed(b, h []byte) int {
	switch j.n % 4 {
	case 0: // a UDP length of more than there is
		n := j.datagram(b, h)
		binary.BigEndian.PutUint16(h[4:], 512)
		return n
	case 1: // a TCP header that ends before its checksum
		j.segment(b, h)
		return ipHeader + 12
	case 2: // a data offset within the header
		n := j.segment(b, h)
		h[12] = 4 << 4
		return n
	default: // a wrong checksum
		n := j.segment(b, h)
		h[16] ^= 1
		return n
	}
}

// transportChecksum returns the checksum of an IPv4 packet's TCP or UDP, whose
// own field is 0.
func transportChecksum(packet []byte) uint16 {
	src, dst := netip.AddrFrom4([4]byte(packet[12:])), netip.AddrFrom4([4]byte(packet[16:]))
	if sum := netlab.Checksum(src, dst, packet[9], packet[ipHeader:]); sum != 0 {
		return sum
	}
	return 0xffff // in UDP 0 means none, and in TCP both are the same
}
