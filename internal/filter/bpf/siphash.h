/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys and their fingerprints: SipHash-1-3 (Aumasson, Bernstein 2012), one
 * round for each word, three at the end. Go computes the same in hash_linux.go.
 */
#ifndef SIPHASH_H
#define SIPHASH_H

/*
 * A key is what a fingerprint stands for, in five words as both sides read them
 * from memory:
 *
 *	0        16       32       34       36     40
 *	source   dest.    s. port  d. port  kind      KEY_FLOW
 *	address  0        0        0        kind      KEY_SOURCE, KEY_SUBNET, KEY_TRACED
 *	fields   0        0        0        kind      KEY_EXPECTED: u64, u16 in words 0 and 1
 */
enum key_kind {
	KEY_FLOW = 1,
	KEY_SOURCE,
	KEY_SUBNET,
	KEY_TRACED,
	KEY_EXPECTED,
};

union last_word {
	struct {
		__be16 src_port, dst_port;
		enum key_kind kind;
	};
	__u64 word;
};

struct key {
	struct addr src, dst;
	union last_word last;
};

static __always_inline __u64 last_word(__be16 src_port, __be16 dst_port, enum key_kind kind)
{
	union last_word last = { { src_port, dst_port, kind } };

	return last.word;
}

/* Drawn at each start. An attacker who knew it could fill a bucket. */
const volatile __u64 secret0, secret1;

static __always_inline __u64 rotate(__u64 x, int n)
{
	return x << n | x >> (64 - n);
}

struct sip {
	__u64 v0, v1, v2, v3;
};

static __always_inline void sip_round(struct sip *s)
{
	s->v0 += s->v1;
	s->v1 = rotate(s->v1, 13) ^ s->v0;
	s->v0 = rotate(s->v0, 32);
	s->v2 += s->v3;
	s->v3 = rotate(s->v3, 16) ^ s->v2;
	s->v0 += s->v3;
	s->v3 = rotate(s->v3, 21) ^ s->v0;
	s->v2 += s->v1;
	s->v1 = rotate(s->v1, 17) ^ s->v2;
	s->v2 = rotate(s->v2, 32);
}

static __always_inline void sip_word(struct sip *s, __u64 word)
{
	s->v3 ^= word;
	sip_round(s);
	s->v0 ^= word;
}

/*
 * fingerprint returns the hash of a key. Its lowest bit is set: 0 is a free slot
 * of a table.
 */
static __noinline __u64 fingerprint(const struct key *k)
{
	__u64 k0 = secret0, k1 = secret1;
	struct sip s = {
		k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d,
		k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573,
	};

	sip_word(&s, k->src.halves[0]);
	sip_word(&s, k->src.halves[1]);
	sip_word(&s, k->dst.halves[0]);
	sip_word(&s, k->dst.halves[1]);
	sip_word(&s, k->last.word);
	sip_word(&s, (__u64)sizeof(*k) << 56);

	s.v2 ^= 0xff;
	sip_round(&s);
	sip_round(&s);
	sip_round(&s);
	return (s.v0 ^ s.v1 ^ s.v2 ^ s.v3) | 1;
}

#endif
