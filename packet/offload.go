package packet

// Offload describes the work on a TCP packet that is left to the kernel, or
// that the kernel has done already: the fields of a virtio-net header (VIRTIO
// 1.2, 5.1.6) that concern TCP.
type Offload struct {
	// NeedsChecksum reports that the TCP checksum field holds the sum of the
	// pseudo header only. The checksum is completed before the packet goes on
	// a wire.
	NeedsChecksum bool
	// ChecksumValid reports that the kernel has verified the transport checksum,
	// or that the packet never left this machine. It is set only on packets that
	// were read.
	ChecksumValid bool
	// ChecksumStart is the offset of the first checksummed byte from the start
	// of the packet, which is the length of the IP header.
	ChecksumStart uint16
	// SegmentSize is the MSS, in bytes of payload, at which a super-packet is
	// segmented, or from which it was coalesced; 0 for a single packet.
	SegmentSize uint16
	// HeaderLength is the length of the IP and TCP headers in bytes. It is
	// written, but never trusted when read.
	HeaderLength uint16
}
