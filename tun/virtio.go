package tun

import (
	"encoding/binary"

	"github.com/knockgw/knockgw/packet"
)

// The virtio-net header that precedes every packet on a Linux TUN device with
// IFF_VNET_HDR (VIRTIO 1.2, 5.1.6), in the byte order of the host:
//
//	u8 flags || u8 gso_type || u16 hdr_len || u16 gso_size || u16 csum_start || u16 csum_offset
const virtioHeaderSize = 10

const (
	virtioNeedsChecksum = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM
	virtioDataValid     = 2 // VIRTIO_NET_HDR_F_DATA_VALID

	virtioGSONone  = 0    // VIRTIO_NET_HDR_GSO_NONE
	virtioGSOTCPv4 = 1    // VIRTIO_NET_HDR_GSO_TCPV4
	virtioGSOTCPv6 = 4    // VIRTIO_NET_HDR_GSO_TCPV6
	virtioGSOECN   = 0x80 // VIRTIO_NET_HDR_GSO_ECN, or-ed to the type

	tcpChecksumOffset = 16 // of the checksum field in a TCP header
)

// decodeVirtio decodes the header b, at least virtioHeaderSize bytes, of a
// packet of size bytes. It ignores hdr_len, which is only a hint and not always
// correct. ok is false for segmentation types that Open does not enable, and
// for a checksum field outside the packet.
func decodeVirtio(b []byte, size int) (o packet.Offload, ok bool) {
	flags, gso := b[0], b[1]&^virtioGSOECN
	switch gso {
	case virtioGSONone:
	case virtioGSOTCPv4, virtioGSOTCPv6:
		o.SegmentSize = binary.NativeEndian.Uint16(b[4:])
		if o.SegmentSize == 0 {
			return o, false
		}
	default:
		return o, false
	}
	if flags&virtioNeedsChecksum != 0 {
		start := binary.NativeEndian.Uint16(b[6:])
		offset := binary.NativeEndian.Uint16(b[8:])
		if int(start)+int(offset)+2 > size {
			return o, false
		}
		o.NeedsChecksum = true
		o.ChecksumStart = start
	}
	o.ChecksumValid = flags&virtioDataValid != 0
	return o, true
}

// encodeVirtio encodes the header of a TCP packet with offload o into b.
func encodeVirtio(b []byte, o packet.Offload, version uint8) {
	clear(b[:virtioHeaderSize])
	if o.NeedsChecksum {
		b[0] = virtioNeedsChecksum
		binary.NativeEndian.PutUint16(b[6:], o.ChecksumStart)
		binary.NativeEndian.PutUint16(b[8:], tcpChecksumOffset)
	}
	if o.SegmentSize > 0 {
		b[1] = virtioGSOTCPv4
		if version == 6 {
			b[1] = virtioGSOTCPv6
		}
		binary.NativeEndian.PutUint16(b[2:], o.HeaderLength)
		binary.NativeEndian.PutUint16(b[4:], o.SegmentSize)
	}
}
