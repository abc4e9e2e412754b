/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A packet on its way through the program, and the questions that several checks
 * ask about it.
 */
#ifndef PACKET_H
#define PACKET_H

/* A verdict is a reason to drop the packet, or one of these. */
enum {
	PASS = -1,
	KNOCK = -2, /* mark the source and pass */
	NEXT = -3,  /* go on with the next check */
};

struct packet {
	struct __sk_buff *skb;
	__u32 ip_header; /* bytes, without extension headers */
	__u32 transport; /* offset of the transport header */
	__u32 end;       /* offset of the packet's end, by its IP header */
	__u8 protocol;
	union key flow; /* addresses and ports */
};

/*
 * LOAD copies size bytes of the packet. The caller has compared with the end, so
 * that a failure is unexpected: then the packet passes.
 */
#define LOAD(p, offset, to, size)                                             \
	do {                                                                  \
		if (bpf_skb_load_bytes((p)->skb, offset, to, size))           \
			return PASS;                                          \
	} while (0)

static __always_inline int is_equal(const struct addr *a, const struct addr *b)
{
	return a->halves[0] == b->halves[0] && a->halves[1] == b->halves[1];
}

static __always_inline void set_ipv4(struct addr *a, __be32 ipv4)
{
	a->halves[0] = 0;
	a->words[2] = MAPPED_PREFIX;
	a->words[3] = ipv4;
}

static __always_inline int is_mapped(const struct addr *a)
{
	return a->halves[0] == 0 && a->words[2] == MAPPED_PREFIX;
}

/* source_fingerprint returns the fingerprint of the packet's source, for a kind of key. */
static __always_inline __u64 source_fingerprint(const struct packet *p, enum key_kind kind)
{
	union key k = { .src = p->flow.src, .kind = kind };

	return fingerprint(&k);
}

/* subnet_fingerprint returns the fingerprint of an IPv4 source, or of an IPv6 /64. */
static __always_inline __u64 subnet_fingerprint(const struct packet *p)
{
	union key k = { .src = p->flow.src, .kind = KEY_SUBNET };

	if (p->ip_header == sizeof(struct ipv6_header))
		k.src.halves[1] = 0;
	return fingerprint(&k);
}

/* accepts_at returns what is accepted at the packet's destination; 0 for nothing. */
static __always_inline enum accepts accepts_at(const struct packet *p)
{
	struct service_key k = {
		.bits = SERVICE_KEY_BITS,
		.protocol = p->protocol,
		.ip_header = p->ip_header,
		.port = p->flow.dst_port,
	};
	enum accepts *accepts;

	__builtin_memcpy(k.addr, &p->flow.dst, sizeof(k.addr));
	accepts = bpf_map_lookup_elem(&services, &k);
	return accepts ? *accepts : 0;
}

/* is_expected_knock reports whether a knock with these fields is expected. */
static __always_inline int is_expected_knock(__u64 a, __u16 b)
{
	union key k = { .src.halves = { a, b }, .kind = KEY_EXPECTED };

	if (control.expected_any)
		return 1;
	if (is_expected(fingerprint(&k)))
		return 1;
	/* Again: the table may have been replaced by one that is too full. */
	return control.expected_any != 0;
}

/*
 * load_tcp loads a TCP header and returns NEXT, or truncated if the header is
 * not there whole.
 */
static __always_inline int load_tcp(const struct packet *p, struct tcp_header *h,
				    int truncated)
{
	__u32 available = p->end - p->transport;
	__u32 length;

	if (available < sizeof(*h))
		return truncated;
	LOAD(p, p->transport, h, sizeof(*h));

	length = (h->data_offset >> 4) * 4;
	if (length < sizeof(*h) || length > available)
		return truncated;
	return NEXT;
}

/*
 * mark_source lets the SYNs of a source pass for a while: its SYN may come before
 * the gate has read the knock.
 */
static __always_inline void mark_source(const struct packet *p)
{
	__u64 *mark = mark_of(source_fingerprint(p, KEY_SOURCE));

	if (mark)
		*(volatile __u64 *)mark = control.tick + mark_ticks;
}

static __always_inline int is_traced(const struct packet *p)
{
	return control.traced && is_entry(source_fingerprint(p, KEY_TRACED));
}

#endif
