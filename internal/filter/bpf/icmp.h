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
static __always_inline int check_quoted(const struct packet *p, union key *k, __u32 transport)
{
	struct {
		__be16 src_port, dst_port;
	} quoted;

	if (transport + ICMP_QUOTED > p->end)
		return REASON_ICMP;
	if (!is_equal(&k->dst, &p->flow.dst))
		return REASON_ICMP;
	LOAD(p, transport, &quoted, sizeof(quoted));
	k->src_port = quoted.dst_port;
	k->dst_port = quoted.src_port;
	k->kind = KEY_FLOW;
	return is_entry(fingerprint(k)) ? PASS : REASON_ICMP;
}

static __always_inline int check_icmpv4(const struct packet *p, __u8 type, __u32 offset)
{
	struct ipv4_header h;
	union key k;
	__u32 length;

	if (type != ICMP_DEST_UNREACHABLE && type != ICMP_TIME_EXCEEDED &&
	    type != ICMP_PARAMETER_PROBLEM)
		return REASON_ICMP;
	if (offset + sizeof(h) > p->end)
		return REASON_ICMP;
	LOAD(p, offset, &h, sizeof(h));
	length = (h.version_ihl & 15) * 4;
	if (h.version_ihl >> 4 != 4 || length < sizeof(h) || h.protocol != PROTO_TCP)
		return REASON_ICMP;
	if (bpf_ntohs(h.flags_offset) & IPV4_OFFSET)
		return REASON_ICMP;
	set_ipv4(&k.src, h.dst);
	set_ipv4(&k.dst, h.src);
	return check_quoted(p, &k, offset + length);
}

static __always_inline int check_icmpv6(const struct packet *p, __u8 type, __u32 offset)
{
	struct ipv6_header h;
	union key k;

	if (type < ICMPV6_FIRST_ERROR || type > ICMPV6_LAST_ERROR)
		return REASON_ICMP;
	if (offset + sizeof(h) > p->end)
		return REASON_ICMP;
	LOAD(p, offset, &h, sizeof(h));
	if (h.version >> 4 != 6 || h.next_header != PROTO_TCP)
		return REASON_ICMP;
	k.src = h.dst;
	k.dst = h.src;
	return check_quoted(p, &k, offset + sizeof(h));
}

static __always_inline int check_icmp(const struct packet *p)
{
	struct icmp_header h;
	int is_ipv4 = p->ip_header == sizeof(struct ipv4_header);

	if (is_ipv4 != (p->protocol == PROTO_ICMP))
		return REASON_MALFORMED_PROTOCOL;
	if (p->end - p->transport < sizeof(h))
		return REASON_MALFORMED_TRANSPORT_HEADER;
	LOAD(p, p->transport, &h, sizeof(h));
	if (is_ipv4)
		return check_icmpv4(p, h.type, p->transport + sizeof(h));
	return check_icmpv6(p, h.type, p->transport + sizeof(h));
}

#endif
