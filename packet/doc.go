// Package packet decodes IPv4 and IPv6 packets and their TCP, UDP and ICMP
// headers.
//
// A Packet holds the bytes that a TUN device delivered and, after Parse, the
// decoded headers. Parse never allocates. It rejects malformed packets, so that
// later stages need not check lengths again, and everything that two
// implementations could interpret differently: IPv4 options, IPv6 extension
// headers and fragments. A Reassembler joins fragments of TCP packets within
// fixed bounds of memory.
//
// A Packet borrows its bytes. What fills it, such as tun.Device.Read, says
// for how long they are valid.
//
// # Compatibility
//
// The package is part of the module's API: from version 1.0.0 on, programs that
// use its exported names keep compiling and working within a major version.
package packet

// MaxPacket is the size of the largest packet that a Device reads or writes, in
// bytes: the largest value of the 16-bit total length field of IPv4.
const MaxPacket = 65535
