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

/*
 * What the program keeps on its stack. Before Linux 6.10, the verifier takes a
 * constant or bounded number that was stored there for a spilled register, and
 * without CAP_PERFMON no part of it may be overwritten. So keys are written in
 * words of eight bytes, and variables are not left to the compiler, which may
 * have two of them share memory.
 */
struct frame {
	struct key flow; /* addresses and ports of the packet */
	struct key key;  /* any other key that is looked up */
	union {
		struct ipv4_header ipv4;
		struct ipv6_header ipv6;
	} ip; /* the packet's, or the one that an ICMP error quotes */
	union {
		struct fragment_header fragment;
		struct icmp_header icmp;
		struct tcp_header tcp;
		struct udp_header udp;
		struct knock_v2_hint hint;
		struct knock_tail tail;
	} transport;
	__u64 service[sizeof(struct service_key) / 8];
	__u64 index;
};

/* The rest of what is known of the packet, which the compiler keeps in registers. */
struct packet {
	struct __sk_buff *skb;
	__u64 ip_header; /* bytes, without extension headers */
	__u64 transport; /* offset of the transport header */
	__u64 end;       /* offset of the packet's end, by its IP header */
	__u8 protocol;
	__be16 dst_port;
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
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	a->halves[1] = (__u64)ipv4 << 32 | MAPPED_PREFIX;
#else
	a->halves[1] = (__u64)MAPPED_PREFIX << 32 | ipv4;
#endif
}

static __always_inline void set_addr(struct addr *a, const struct addr *from)
{
	a->halves[0] = from->halves[0];
	a->halves[1] = from->halves[1];
}

static __always_inline int is_mapped(const struct addr *a)
{
	return a->halves[0] == 0 && a->words[2] == MAPPED_PREFIX;
}

/* key_hash returns the fingerprint of f->key, whose source is these two words. */
static __always_inline __u64 key_hash(struct frame *f, __u64 a, __u64 b, enum key_kind kind)
{
	f->key.src.halves[0] = a;
	f->key.src.halves[1] = b;
	f->key.dst.halves[0] = 0;
	f->key.dst.halves[1] = 0;
	f->key.last.word = last_word(0, 0, kind);
	return fingerprint(&f->key);
}

/* source_hash returns the fingerprint of the packet's source, for a kind of key. */
static __always_inline __u64 source_hash(struct frame *f, enum key_kind kind)
{
	return key_hash(f, f->flow.src.halves[0], f->flow.src.halves[1], kind);
}

/* subnet_hash returns the fingerprint of an IPv4 source, or of an IPv6 /64. */
static __always_inline __u64 subnet_hash(const struct packet *p, struct frame *f)
{
	if (p->ip_header == sizeof(struct ipv6_header))
		return key_hash(f, f->flow.src.halves[0], 0, KEY_SUBNET);
	return source_hash(f, KEY_SUBNET);
}

/* accepts_at returns what is accepted at the packet's destination; 0 for nothing. */
static __always_inline enum accepts accepts_at(const struct packet *p, struct frame *f)
{
	union {
		struct {
			__u32 bits;
			__u8 protocol;
			__u8 ip_header;
			__be16 port;
		};
		__u64 word;
	} first = { { SERVICE_KEY_BITS, p->protocol, p->ip_header, p->dst_port } };
	enum accepts *accepts;

	f->service[0] = first.word;
	f->service[1] = f->flow.dst.halves[0];
	f->service[2] = f->flow.dst.halves[1];
	accepts = bpf_map_lookup_elem(&services, f->service);
	return accepts ? *accepts : 0;
}

/* is_expected_knock reports whether a knock with these fields is expected. */
static __always_inline int is_expected_knock(struct frame *f, __u64 a, __u16 b)
{
	if (control.expected_any)
		return 1;
	if (is_expected(key_hash(f, a, b, KEY_EXPECTED)))
		return 1;
	/* Again: the table may have been replaced by one that is too full. */
	return control.expected_any != 0;
}

/*
 * load_tcp loads a TCP header and returns NEXT, or truncated if the header is
 * not there whole.
 */
static __always_inline int load_tcp(const struct packet *p, struct frame *f, int truncated)
{
	struct tcp_header *h = &f->transport.tcp;
	__u64 available = p->end - p->transport;
	__u64 length;

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
static __always_inline void mark_source(struct frame *f)
{
	__u64 *mark = mark_of(&f->index, source_hash(f, KEY_SOURCE));

	if (mark)
		*(volatile __u64 *)mark = control.tick + mark_ticks;
}

static __always_inline int is_traced(struct frame *f)
{
	return control.traced && is_entry(source_hash(f, KEY_TRACED));
}

#endif
