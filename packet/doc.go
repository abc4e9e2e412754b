// Package packet decodes IP packets and their TCP, UDP and ICMP headers.
//
// A Packet is what a TUN device delivers: the bytes, and after Parse what the
// headers say. Parse allocates nothing and refuses packets that are malformed,
// so that later stages need not check lengths again. A Reassembler joins
// fragments within fixed bounds of memory.
//
// The package is part of the API: tun.Device reads into a Packet.
package packet

// MaxPacket is the largest packet, in bytes, that a Device reads or writes:
// the most that the 16-bit total length of IPv4 can say.
const MaxPacket = 65535
