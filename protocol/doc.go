// Package protocol is the messages of knockgw: how they are encoded, decoded and verified.
//
// It is pure. It does no I/O, reads no clock, starts no goroutine and keeps no state between calls;
// time, randomness and memory are handed in. Everything here is therefore testable with recorded
// bytes, and is: testdata/wire.json was produced by an independent implementation, and every case in
// it decodes and re-encodes to the same bytes.
//
// # What is said to whom
//
// A client and a gateway share an identity: a client id, which is public text, and a secret of at
// least sixteen bytes. There are four kinds of message, and each speaks of one *protected port*, the
// TCP port of the service behind the gateway, whatever port the bytes travelled to:
//
//	                     travels as               proves freshness by         type here
//	frame v1             start of a TCP stream    time and random nonce       FrameV1
//	envelope v2          start of a TCP stream    time and random prefix      EnvelopeV2
//	UDP knock v1         one datagram             time and random nonce       Knock
//	TCP SYN knock        fields of a SYN          the time slot it is for     SYNFields
//
// The first two authenticate a connection and may be answered by a 50-byte server proof. The knocks
// are never answered. Port, format and label go into every MAC, key and AAD, so that no message of
// one kind, port or client means anything as another.
//
// # Finding the client
//
// No message names its client in the clear. Frame v1, the knock and (by default) the envelope carry a
// hint of eight bytes instead, a MAC over the message's nonce and the port. The receiver computes the
// hint of each candidate client and compares. That is one HMAC for each candidate and is what a
// stranger's junk costs, so it is made cheap: [Client] keeps the two SHA-256 states that every HMAC
// under its secret begins with, and [Scratch] keeps the digest that they are restored into. One hint
// is two restores and two compressions, without allocation. Only a message whose hint matches is
// worth a key derivation and a decryption. Eight bytes of hint do not authenticate anything: the AEAD
// does, and after it the client hash and the port sealed inside, which must be the expected ones.
//
// An envelope in hint mode none has no hint. It looks uniformly random from its first byte to its
// last, at the price of one trial decryption for each client and bucket.
//
// The intended order for a receiver, cheapest first:
//
//	ParseKnock / ParseFrameV1 / ParseEnvelopeV2    lengths and fixed bytes; no cryptography
//	Match, for each candidate                      one HMAC
//	Open, with the candidate that matched          HKDF, AEAD, sealed port, client hash, consistency
//	the caller: time window, then replay by Nonce  Open does not look at a clock or a store
//
// # Refusals
//
// Refusing is the common case, so it costs no allocation: every refusal is an [Error], a small
// constant that is its own counter index and compares with ==. What a stranger may learn from which
// refusal it was, or from how long it took, is the caller's business: answer them all alike.
//
// Whatever is compared against something derived from a secret is compared in constant time.
//
// # Why there is an HMAC in here
//
// crypto/hmac and crypto/hkdf allocate a handful of objects for each call. HMAC is two hashes with a
// prefix, HKDF two HMACs; mac.go writes them out over one reused crypto/sha256 digest, and the tests
// hold them against the standard library's. Nothing else is home-made: the hash is crypto/sha256, the
// AEADs are golang.org/x/crypto's.
//
// # Borrowed and owned
//
// The parsed headers (FrameV1, EnvelopeV2, Knock) borrow the bytes they were parsed from and are good
// for as long as those bytes are left alone. What Open returns (Message, KnockMessage) is a copy and
// the caller's own. Append functions append to dst and keep neither dst nor the message.
//
// The section names in this package's comments are those of the wire format specification.
//
// # Compatibility
//
// The package is part of the module's API: from version 1.0.0 on, programs that
// use its exported names keep compiling and working within a major version.
package protocol
