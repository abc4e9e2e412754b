// SPDX-License-Identifier: Apache-2.0
/*
 * The kernel filter: a socket filter on the gateway's TUN device. It drops what
 * the gate would drop and passes what it is not sure of. A packet on its way
 * through it:
 *
 *	parse_ipv4, parse_ipv6   version, lengths, options, addresses
 *	check_fragment           of a subnet that has flows?              pass
 *	check_tcp, SYN           an expected knock                        mark the source, pass
 *	                         to an open service; of a known source,
 *	                         or a marked one                          pass
 *	check_tcp, else          of a flow; an ACK while SYN cookies are
 *	                         in use                                   pass
 *	check_udp                has the form of a knock                  mark the source, pass
 *	check_icmp (icmp.h)      an error about a flow                    pass
 *	knockgw                  of a traced source; while all packets
 *	                         pass                                     pass
 *	                         else                                     count, drop
 *
 * The checks and their order are those of packet.Packet.Parse and of
 * admission.Gate.Admit, so that the reasons are the same.
 *
 * The verifier follows every branch. Without CAP_PERFMON, which the gateway does
 * not need, it accepts neither reads of uninitialized stack nor variable offsets
 * into the stack; struct frame and tcp_timestamp have more of its rules.
 */
#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "headers.h"
#include "siphash.h"
#include "tables.h"
#include "packet.h"
#include "icmp.h"

/* The program calls only helpers that are not restricted to the GPL. */
char __license[] SEC("license") = "Apache-2.0";

/*
 * check_fragment drops a fragment unless its source has flows: the process
 * reassembles TCP of these. The rest says which of two reasons it is.
 */
static __always_inline int check_fragment(const struct packet *p, struct frame *f, __u16 offset)
{
	int verdict;

	if (is_entry(subnet_hash(p, f)))
		return PASS;
	if (offset)
		return REASON_MALFORMED_FRAGMENT;
	verdict = load_tcp(p, f, REASON_MALFORMED_FRAGMENT_TINY);
	return verdict == NEXT ? REASON_MALFORMED_FRAGMENT : verdict;
}

static __always_inline int parse_ipv4(struct packet *p, struct frame *f)
{
	const struct ipv4_header *h = &f->ip.ipv4;
	__u64 total, fragment, first;

	set_ipv4(&f->flow.src, h->src);
	set_ipv4(&f->flow.dst, h->dst);
	p->protocol = h->protocol;
	p->ip_header = sizeof(*h);

	p->transport = (h->version_ihl & 15) * 4;
	if (p->transport < sizeof(*h) || p->transport > p->end)
		return REASON_MALFORMED_HEADER_LENGTH;
	total = bpf_ntohs(h->total_length);
	if (total < p->transport || total > p->end)
		return REASON_MALFORMED_LENGTH;
	p->end = total;

	fragment = bpf_ntohs(h->flags_offset) & IPV4_FRAGMENT;
	if (fragment) {
		if (p->transport > sizeof(*h) || p->protocol != PROTO_TCP)
			return REASON_MALFORMED_FRAGMENT;
		return check_fragment(p, f, fragment & IPV4_OFFSET);
	}

	if (p->transport > sizeof(*h))
		return REASON_MALFORMED_IP_OPTIONS;
	first = bpf_ntohl(h->src) >> 24;
	/* "this network", loopback, multicast and reserved */
	if (first == 0 || first == 127 || first >= 224)
		return REASON_MALFORMED_ADDRESS;
	return NEXT;
}

static __always_inline int is_extension(__u8 next_header)
{
	switch (next_header) {
	case 0:   /* hop-by-hop options */
	case 43:  /* routing */
	case 50:  /* ESP */
	case 51:  /* AH */
	case 59:  /* no next header */
	case 60:  /* destination options */
	case 135: /* mobility */
	case 139: /* HIP */
	case 140: /* shim6 */
	case 253: /* experiments */
	case 254:
		return 1;
	}
	return 0;
}

static __always_inline int parse_ipv6_fragment(struct packet *p, struct frame *f)
{
	struct fragment_header *h = &f->transport.fragment;
	__u16 offset_flags;

	if (p->end < p->transport + sizeof(*h))
		return REASON_MALFORMED_FRAGMENT;
	LOAD(p, p->transport, h, sizeof(*h));
	p->transport += sizeof(*h);
	p->protocol = h->next_header;
	offset_flags = bpf_ntohs(h->offset_flags);
	/* the only fragment of its packet */
	if (!(offset_flags & (IPV6_OFFSET | IPV6_MORE_FRAGMENTS)))
		return REASON_MALFORMED_FRAGMENT;
	if (p->protocol != PROTO_TCP)
		return REASON_MALFORMED_FRAGMENT;
	if (is_mapped(&f->flow.src) || is_mapped(&f->flow.dst))
		return REASON_MALFORMED_FRAGMENT;
	return check_fragment(p, f, offset_flags & IPV6_OFFSET);
}

static __always_inline int parse_ipv6(struct packet *p, struct frame *f)
{
	struct ipv6_header *h = &f->ip.ipv6;
	__u64 length;

	LOAD(p, 0, h, sizeof(*h));
	set_addr(&f->flow.src, &h->src);
	set_addr(&f->flow.dst, &h->dst);
	p->protocol = h->next_header;
	p->ip_header = p->transport = sizeof(*h);

	length = sizeof(*h) + bpf_ntohs(h->payload_length);
	if (length > p->end)
		return REASON_MALFORMED_LENGTH;
	p->end = length;

	if (p->protocol == PROTO_FRAGMENT)
		return parse_ipv6_fragment(p, f);
	if (is_extension(p->protocol))
		return REASON_MALFORMED_EXTENSION_HEADER;
	if (is_mapped(&f->flow.src) || is_mapped(&f->flow.dst))
		return REASON_MALFORMED_ADDRESS;
	if (f->flow.src.bytes[0] == 0xff) /* multicast */
		return REASON_MALFORMED_ADDRESS;
	/* unspecified, loopback */
	if (f->flow.src.halves[0] == 0 && bpf_be64_to_cpu(f->flow.src.halves[1]) <= 1)
		return REASON_MALFORMED_ADDRESS;
	return NEXT;
}

/* set_ports copies the ports. A port of 0 is malformed. */
static __always_inline int set_ports(struct packet *p, struct frame *f, __be16 src, __be16 dst)
{
	if (src == 0 || dst == 0)
		return REASON_MALFORMED_PORT_ZERO;
	f->flow.last.word = last_word(src, dst, KEY_FLOW);
	p->dst_port = dst;
	return NEXT;
}

#define NO_TIMESTAMP -1

/*
 * tcp_timestamp returns the value of the Timestamps option among the TCP options
 * from offset to end, or NO_TIMESTAMP. It reads them as admission does. The loop
 * is unrolled: without CAP_PERFMON, the verifier of Linux 6.1 follows the
 * speculative way past the end of a loop, again and again.
 */
static __noinline __s64 tcp_timestamp(struct __sk_buff *skb, __u64 offset, __u64 end)
{
#pragma unroll
	for (int i = 0; i < TCP_MAX_OPTIONS; i++) {
		struct {
			__u8 kind, size;
		} option;
		__be32 value;

		/* Beyond the last byte there is no value either. */
		if (offset >= end ||
		    bpf_skb_load_bytes(skb, offset, &option, sizeof(option)))
			return NO_TIMESTAMP;
		if (option.kind == TCP_OPTION_END)
			return NO_TIMESTAMP;

		if (option.kind == TCP_OPTION_NOP) {
			offset++;
			continue;
		}
		if (option.size < 2 || offset + option.size > end)
			return NO_TIMESTAMP;
		if (option.kind == TCP_OPTION_TIMESTAMPS &&
		    option.size == TCP_TIMESTAMPS_SIZE) {
			if (bpf_skb_load_bytes(skb, offset + 2, &value, sizeof(value)))
				return NO_TIMESTAMP;
			return bpf_ntohl(value);
		}
		offset += option.size;
	}
	return NO_TIMESTAMP;
}

static __always_inline int check_syn(const struct packet *p, struct frame *f, enum accepts accepts)
{
	const struct tcp_header *h = &f->transport.tcp;
	__u64 source, *mark;

	/* A knock is looked for first, from any source: its source must be marked. */
	if (control.legacy | (accepts & ACCEPTS_SYN_KNOCK)) {
		__u64 options = p->transport + sizeof(*h);
		__u64 options_end = p->transport + (h->data_offset >> 4) * 4;
		__s64 timestamp = tcp_timestamp(p->skb, options, options_end);
		__u64 seq = bpf_ntohl(h->seq);

		if (timestamp != NO_TIMESTAMP &&
		    is_expected_knock(f, seq << 32 | timestamp, bpf_ntohs(h->window)))
			return KNOCK;
	}

	if (!accepts)
		return REASON_NO_SERVICE;
	if (accepts & ACCEPTS_ALL)
		return PASS;
	source = source_hash(f, KEY_SOURCE);
	if (is_entry(source))
		return PASS;
	mark = mark_of(&f->index, source);
	if (!mark || control.tick < *mark)
		return PASS;
	return REASON_NO_GRANT;
}

/* check_tcp decides as Gate.admitTCP. */
static __always_inline int check_tcp(struct packet *p, struct frame *f)
{
	const struct tcp_header *h = &f->transport.tcp;
	enum accepts accepts;
	int verdict;

	verdict = load_tcp(p, f, REASON_MALFORMED_TRANSPORT_HEADER);
	if (verdict != NEXT)
		return verdict;
	verdict = set_ports(p, f, h->src_port, h->dst_port);
	if (verdict != NEXT)
		return verdict;

	accepts = accepts_at(p, f);
	if ((h->flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN)
		return check_syn(p, f, accepts);
	if (!accepts)
		return REASON_NO_SERVICE;
	if (is_entry(fingerprint(&f->flow)))
		return PASS;

	/* The answer to a SYN cookie? */
	if ((h->flags & (TCP_SYN | TCP_ACK | TCP_RST)) != TCP_ACK)
		return REASON_NO_FLOW;
	if (!(accepts & ACCEPTS_ALL))
		return REASON_NO_FLOW;
	return control.tick < control.cookies_until ? PASS : REASON_NO_FLOW;
}

/* check_udp decides as Gate.admitUDP. */
static __always_inline int check_udp(struct packet *p, struct frame *f)
{
	const struct udp_header *h = &f->transport.udp;
	const struct knock_v2_hint *hint = &f->transport.hint;
	const struct knock_tail *tail = &f->transport.tail;
	__u64 payload, size;
	enum accepts accepts;
	int verdict;

	if (p->end - p->transport < sizeof(*h))
		return REASON_MALFORMED_TRANSPORT_HEADER;
	LOAD(p, p->transport, &f->transport, sizeof(*h));
	if (p->transport + bpf_ntohs(h->length) != p->end)
		return REASON_MALFORMED_LENGTH;
	verdict = set_ports(p, f, h->src_port, h->dst_port);
	if (verdict != NEXT)
		return verdict;

	accepts = accepts_at(p, f);
	if (!accepts)
		return REASON_NO_SERVICE;
	payload = p->transport + sizeof(*h);
	size = p->end - payload;
	if ((accepts & ACCEPTS_UDP_V2) && size == KNOCK_V2_SIZE) {
		LOAD(p, payload, &f->transport, sizeof(hint->a) + sizeof(hint->b));
		if (is_expected_knock(f, bpf_be64_to_cpu(hint->a), bpf_ntohs(hint->b)))
			return KNOCK;
	}

	if (!(accepts & ACCEPTS_UDP_V1) || size < KNOCK_MIN || size > KNOCK_MAX)
		return REASON_NOT_A_KNOCK;
	LOAD(p, payload + KNOCK_TAIL, &f->transport, sizeof(*tail));
	if (KNOCK_HEADER + bpf_ntohs(tail->length) != size)
		return REASON_NOT_A_KNOCK;
	if ((tail->flags & ~KNOCK_FLAGS) || tail->reserved)
		return REASON_NOT_A_KNOCK;
	return KNOCK;
}

static __always_inline int check_ip(struct packet *p, struct frame *f)
{
	struct ipv4_header *h = &f->ip.ipv4;
	int verdict;

	if (p->end < sizeof(*h))
		return REASON_MALFORMED_SHORT;
	LOAD(p, 0, h, sizeof(*h));
	switch (h->version_ihl >> 4) {
	case 4:
		verdict = parse_ipv4(p, f);
		break;
	case 6:
		if (p->end < sizeof(struct ipv6_header))
			return REASON_MALFORMED_SHORT;
		verdict = parse_ipv6(p, f);
		break;
	default:
		return REASON_MALFORMED_VERSION;
	}
	if (verdict != NEXT)
		return verdict;
	if (is_equal(&f->flow.src, &f->flow.dst)) /* a LAND packet */
		return REASON_MALFORMED_ADDRESS;

	switch (p->protocol) {
	case PROTO_TCP:
		return check_tcp(p, f);
	case PROTO_UDP:
		return check_udp(p, f);
	case PROTO_ICMP:
	case PROTO_ICMPV6:
		return check_icmp(p, f);
	}
	return REASON_MALFORMED_PROTOCOL;
}

/* A socket filter returns how many bytes of the packet are kept. */
SEC("socket")
int knockgw(struct __sk_buff *skb)
{
	struct packet p = { .skb = skb, .end = skb->len };
	struct frame f;
	int verdict = check_ip(&p, &f);
	__u64 *count;

	switch (verdict) {
	case KNOCK:
		mark_source(&f);
		return skb->len;
	case PASS:
		return skb->len;
	case REASON_MALFORMED_SHORT:
	case REASON_MALFORMED_VERSION:
		break; /* no source that could be traced */
	default:
		if (is_traced(&f))
			return skb->len;
	}

	if (control.tick < control.bypass_until)
		return skb->len;
	count = bpf_map_lookup_elem(&dropped, index_key(&f.index, verdict));
	if (!count)
		return skb->len;
	(*count)++; /* each processor has its own */
	return 0;
}
