package packet

// Offload is what a packet asks of, or is vouched for by, the kernel: the
// fields of a virtio-net header (VIRTIO 1.2, 5.1.6) that concern TCP.
type Offload struct {
	// NeedsChecksum: the TCP checksum field holds the sum of the pseudo
	// header only; whoever puts the packet on a wire completes it.
	NeedsChecksum bool
	// ChecksumValid: the kernel has verified the transport checksum, or the
	// packet never left this machine. Only set on packets that were read.
	ChecksumValid bool
	// ChecksumStart is where the checksummed part begins, in bytes from the
	// start of the packet: the length of the IP header.
	ChecksumStart uint16
	// SegmentSize is the MSS, in bytes of payload, at which a super-packet is
	// to be cut or was put together; 0 for a single packet.
	SegmentSize uint16
	// HeaderLength is the length of the IP and TCP headers in bytes. Written,
	// never believed when read.
	HeaderLength uint16
}
