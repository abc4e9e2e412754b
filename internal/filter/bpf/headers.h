/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Protocol headers, by the byte. The kernel's own definitions have bit-fields
 * whose order follows the byte order of the machine that compiles, and one
 * machine compiles the objects for both byte orders.
 */
#ifndef HEADERS_H
#define HEADERS_H

#define PROTO_ICMP 1
#define PROTO_TCP 6
#define PROTO_UDP 17
#define PROTO_FRAGMENT 44
#define PROTO_ICMPV6 58

/* RFC 791, 3.1 */
struct ipv4_header {
	__u8 version_ihl;
	__u8 tos;
	__be16 total_length;
	__be16 id;
	__be16 flags_offset;
	__u8 ttl;
	__u8 protocol;
	__be16 checksum;
	__be32 src, dst;
};

#define IPV4_FRAGMENT 0x3fff /* more fragments, or an offset */
#define IPV4_OFFSET 0x1fff

/* An IPv4 or IPv6 address, as packet.Addr: IPv4 as IPv4-mapped IPv6. */
struct addr {
	union {
		__u8 bytes[16];
		__be32 words[4];
		__u64 halves[2];
	};
};

#define MAPPED_PREFIX bpf_htonl(0x0000ffff) /* bytes 8 to 11 of ::ffff:0:0/96 */

/* RFC 8200, 3 */
struct ipv6_header {
	__u8 version;
	__u8 class_flow[3];
	__be16 payload_length;
	__u8 next_header;
	__u8 hop_limit;
	struct addr src, dst;
} __attribute__((packed, aligned(8)));

/* RFC 8200, 4.5 */
struct fragment_header {
	__u8 next_header;
	__u8 reserved;
	__be16 offset_flags;
	__be32 id;
};

#define IPV6_OFFSET 0xfff8
#define IPV6_MORE_FRAGMENTS 1

/* RFC 9293, 3.1 */
struct tcp_header {
	__be16 src_port, dst_port;
	__be32 seq, ack;
	__u8 data_offset;
	__u8 flags;
	__be16 window;
	__be16 checksum;
	__be16 urgent;
};

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

#define TCP_MAX_OPTIONS 40 /* bytes */
#define TCP_OPTION_END 0
#define TCP_OPTION_NOP 1
#define TCP_OPTION_TIMESTAMPS 8 /* RFC 7323, 3.2 */
#define TCP_TIMESTAMPS_SIZE 10

/* RFC 768 */
struct udp_header {
	__be16 src_port, dst_port;
	__be16 length;
	__be16 checksum;
};

/* RFC 792; RFC 4443, 2.1 */
struct icmp_header {
	__u8 type, code;
	__be16 checksum;
	__be32 rest;
};

#define ICMP_DEST_UNREACHABLE 3
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12
#define ICMPV6_FIRST_ERROR 1
#define ICMPV6_LAST_ERROR 4
#define ICMP_QUOTED 8 /* minimum of the transport header that an error quotes */

/*
 * Knocks: what protocol.ParseKnock and protocol.ParseKnockV2 check without a
 * key.
 */
struct knock_tail { /* of the header, from KNOCK_TAIL on */
	__be16 length; /* bytes that follow the header */
	__u8 flags;
	__u8 reserved;
};

#define KNOCK_HEADER 28
#define KNOCK_TAIL 24
#define KNOCK_FLAGS 7 /* those that are defined */
#define KNOCK_MIN 80
#define KNOCK_MAX 1024

#define KNOCK_V2_SIZE 128

struct knock_v2_hint {
	__be64 a;
	__be16 b;
} __attribute__((packed, aligned(8)));

#endif
