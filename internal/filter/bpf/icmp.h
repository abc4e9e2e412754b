/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ICMP errors about flows pass, read as packet.Packet.OriginalDatagram reads
 * them. All else of ICMP is dropped.
 */
#ifndef ICMP_H
#define ICMP_H

/*
 * check_quoted passes an ICMP error about a flow. The flow's key is that of
 * packets from the client, and the error quotes a packet to the client.
 */
static __always_inline int check_quoted(const struct packet *p, struct frame *f, __u64 offset)
{
	const struct tcp_header *h = &f->transport.tcp;

	if (offset + ICMP_QUOTED > p->end)
		return REASON_ICMP;
	if (!is_equal(&f->key.dst, &f->flow.dst))
		return REASON_ICMP;
	LOAD(p, offset, &f->transport, sizeof(h->src_port) + sizeof(h->dst_port));
	f->key.last.word = last_word(h->dst_port, h->src_port, KEY_FLOW);
	return is_entry(fingerprint(&f->key)) ? PASS : REASON_ICMP;
}

static __always_inline int check_icmpv4(const struct packet *p, struct frame *f, __u64 offset)
{
	const struct ipv4_header *h = &f->ip.ipv4;
	__u8 type = f->transport.icmp.type;
	__u64 length;

	if (type != ICMP_DEST_UNREACHABLE && type != ICMP_TIME_EXCEEDED &&
	    type != ICMP_PARAMETER_PROBLEM)
		return REASON_ICMP;
	if (offset + sizeof(*h) > p->end)
		return REASON_ICMP;
	LOAD(p, offset, &f->ip, sizeof(*h));

	length = (h->version_ihl & 15) * 4;
	if (h->version_ihl >> 4 != 4 || length < sizeof(*h) || h->protocol != PROTO_TCP)
		return REASON_ICMP;
	if (bpf_ntohs(h->flags_offset) & IPV4_OFFSET)
		return REASON_ICMP;
	set_ipv4(&f->key.src, h->dst);
	set_ipv4(&f->key.dst, h->src);
	return check_quoted(p, f, offset + length);
}

static __always_inline int check_icmpv6(const struct packet *p, struct frame *f, __u64 offset)
{
	const struct ipv6_header *h = &f->ip.ipv6;
	__u8 type = f->transport.icmp.type;

	if (type < ICMPV6_FIRST_ERROR || type > ICMPV6_LAST_ERROR)
		return REASON_ICMP;
	if (offset + sizeof(*h) > p->end)
		return REASON_ICMP;
	LOAD(p, offset, &f->ip, sizeof(*h));

	if (h->version >> 4 != 6 || h->next_header != PROTO_TCP)
		return REASON_ICMP;
	set_addr(&f->key.src, &h->dst);
	set_addr(&f->key.dst, &h->src);
	return check_quoted(p, f, offset + sizeof(*h));
}

static __always_inline int check_icmp(const struct packet *p, struct frame *f)
{
	const struct icmp_header *h = &f->transport.icmp;
	int is_ipv4 = p->ip_header == sizeof(struct ipv4_header);

	if (is_ipv4 != (p->protocol == PROTO_ICMP))
		return REASON_MALFORMED_PROTOCOL;
	if (p->end - p->transport < sizeof(*h))
		return REASON_MALFORMED_TRANSPORT_HEADER;
	LOAD(p, p->transport, &f->transport, sizeof(*h));
	if (is_ipv4)
		return check_icmpv4(p, f, p->transport + sizeof(*h));
	return check_icmpv6(p, f, p->transport + sizeof(*h));
}

#endif
