/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables that the program shares with the process. Go sets the sizes of
 * entries, expected and services, which follow the configuration, and maps
 * control, entries and expected into its memory.
 */
#ifndef TABLES_H
#define TABLES_H

/* The process writes these fields one at a time, as whole words. */
struct control_words {
	__u64 tick;           /* the time, in ticks */
	__u64 bypass_until;   /* every packet passes until this tick */
	__u64 cookies_until;  /* stray ACKs to open services pass until this tick */
	__u64 traced;         /* how many sources are traced */
	__u64 expected_base;  /* first bucket of the current table of expected knocks */
	__u64 expected_any;   /* not 0: every possible SYN knock or udp-v2 is expected */
	__u64 legacy;         /* not 0: a SYN to any port may be a knock */
};

volatile struct control_words control SEC(".data.control");

/* A bucket is a cache line. A fingerprint has two, by its first bits. */
#define BUCKET_SLOTS 8

struct bucket {
	__u64 slots[BUCKET_SLOTS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bucket);
} entries SEC(".maps"), expected SEC(".maps");

/*
 * log2 of the numbers of buckets. There are two tables of expected knocks: the
 * process fills one while the program reads the other.
 */
const volatile __u32 entries_bits = 6, expected_bits = 6;

/*
 * An index as the key of an array, in the word at slot. Stores to the stack are
 * of eight bytes: packet.h says why.
 */
static __always_inline const void *index_key(__u64 *slot, __u32 index)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	*slot = index;
#else
	*slot = (__u64)index << 32;
#endif
	return slot;
}

static __always_inline int table_has(void *table, __u32 bits, __u32 base, __u64 hash)
{
	__u64 shifted = hash, slot;

#pragma unroll
	for (int i = 0; i < 2; i++, shifted <<= bits) {
		__u32 index = base + (shifted >> (64 - bits));
		const volatile struct bucket *b =
			bpf_map_lookup_elem(table, index_key(&slot, index));

		if (!b)
			return 0;
#pragma unroll
		for (int slot = 0; slot < BUCKET_SLOTS; slot++)
			if (b->slots[slot] == hash)
				return 1;
	}
	return 0;
}

/* Flows, sources, subnets with flows, traced sources, by their fingerprints. */
static __noinline int is_entry(__u64 hash)
{
	return table_has(&entries, entries_bits, 0, hash);
}

static __noinline int is_expected(__u64 hash)
{
	return table_has(&expected, expected_bits, control.expected_base, hash);
}

/*
 * What a service accepts, by protocol, port and address prefix. The size of the
 * IP header says which family it is: ::/0 contains no IPv4 address.
 */
struct service_key {
	__u32 bits;
	__u8 protocol;
	__u8 ip_header;
	__be16 port;
	__u8 addr[16];
};

#define SERVICE_KEY_BITS (8 * (sizeof(struct service_key) - sizeof(__u32)))

enum accepts {
	ACCEPTS_FLOWS = 1,     /* of authorized clients: every service does */
	ACCEPTS_ALL = 2,       /* the service is open */
	ACCEPTS_SYN_KNOCK = 4,
	ACCEPTS_UDP_V1 = 8,
	ACCEPTS_UDP_V2 = 16,
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct service_key);
	__type(value, enum accepts);
} services SEC(".maps");

/*
 * The tick until which the SYNs of a source pass, by the first bits of the
 * source's fingerprint. Sources that agree in these bits share a mark.
 */
#define MARK_BITS 17

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 << MARK_BITS);
	__type(key, __u32);
	__type(value, __u64);
} marks SEC(".maps");

const volatile __u32 mark_ticks; /* how long a mark lasts */

static __always_inline __u64 *mark_of(__u64 *slot, __u64 hash)
{
	return bpf_map_lookup_elem(&marks, index_key(slot, hash >> (64 - MARK_BITS)));
}

/* Why a packet was dropped, and how many were: Reason in filter.go. */
enum reason {
	REASON_MALFORMED_SHORT,
	REASON_MALFORMED_VERSION,
	REASON_MALFORMED_HEADER_LENGTH,
	REASON_MALFORMED_LENGTH,
	REASON_MALFORMED_FRAGMENT,
	REASON_MALFORMED_FRAGMENT_TINY,
	REASON_MALFORMED_IP_OPTIONS,
	REASON_MALFORMED_EXTENSION_HEADER,
	REASON_MALFORMED_ADDRESS,
	REASON_MALFORMED_PROTOCOL,
	REASON_MALFORMED_TRANSPORT_HEADER,
	REASON_MALFORMED_PORT_ZERO,
	REASON_NO_SERVICE,
	REASON_NO_FLOW,
	REASON_NO_GRANT,
	REASON_NOT_A_KNOCK,
	REASON_ICMP,
	REASON_COUNT,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REASON_COUNT);
	__type(key, enum reason);
	__type(value, __u64);
} dropped SEC(".maps");

#endif
