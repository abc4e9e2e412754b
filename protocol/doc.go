// Package protocol encodes, decodes and verifies the messages of knockgw.
//
// The package does no I/O, reads no clock, starts no goroutine and keeps no
// state between calls; time, randomness and memory are arguments. Everything is
// therefore testable with recorded bytes: testdata/wire.json was produced by an
// independent implementation, and every case in it decodes and encodes to the
// same bytes.
//
// # The messages
//
// A client and a gateway share an identity: a client ID, which is public text,
// and a secret of at least sixteen bytes. There are five kinds of message. Each
// is for one protected port, the TCP port of the service behind the gateway,
// whatever port the bytes are sent to:
//
//	                     travels as               proves freshness by         type here
//	frame v1             start of a TCP stream    time and random nonce       FrameV1
//	envelope v2          start of a TCP stream    time and random prefix      EnvelopeV2
//	UDP knock v1         one datagram             time and random nonce       Knock
//	UDP knock v2         one datagram             time, slot, random nonce    KnockV2
//	TCP SYN knock        fields of a SYN          the time slot it is for     SYNFields
//
// The first two authenticate a connection and may be answered with a server
// proof of 50 bytes. The knocks are never answered. Port, format and label are
// part of every MAC, key and AAD, so that no message of one kind, port or
// client is valid as another.
//
// # Finding the client
//
// No message names its client in the clear. Frame v1, the knock and (by
// default) the envelope have a hint of eight bytes instead, a MAC over the
// message's nonce and the port. The receiver computes the hint of each
// candidate client and compares. That is one HMAC per candidate, the cost of an
// unauthorized host's junk, so it is cheap: [Client] keeps the two SHA-256
// states that every HMAC under its secret starts from, and [Scratch] keeps the
// digest that they are restored to. A hint takes two restores and two
// compressions, without allocation. Only for a message whose hint matches does
// the receiver derive a key and decrypt. The hint authenticates nothing: the
// AEAD does, and after it the client hash and the port sealed inside, which
// must be the expected ones.
//
// An envelope in hint mode none has no hint. It is uniformly random from its
// first byte to its last, at the cost of one trial decryption per client and
// bucket.
//
// The intended order for a receiver, cheapest first:
//
//	ParseKnock / ParseFrameV1 / ParseEnvelopeV2    lengths and fixed bytes; no cryptography
//	Match, for each candidate                      one HMAC
//	Open, with the candidate that matched          HKDF, AEAD, sealed port, client hash, consistency
//	the caller: time window, then replay by Nonce  Open uses neither a clock nor a store
//
// # Refusals
//
// Refusing is the common case, so it does not allocate: every refusal is an
// [Error], a small constant that is its own counter index and compares with ==.
// The caller must not reveal which refusal it was, or how long it took: treat
// them all alike.
//
// Values derived from a secret are compared in constant time.
//
// # Why there is an HMAC in here
//
// crypto/hmac and crypto/hkdf allocate several objects per call. HMAC is two
// hashes with a prefix, HKDF two HMACs; mac.go implements them with one reused
// crypto/sha256 digest, and the tests compare them with the standard library.
// Nothing else is implemented here: the hash is crypto/sha256, the AEADs are
// those of golang.org/x/crypto.
//
// # Borrowed and owned
//
// The parsed headers (FrameV1, EnvelopeV2, Knock) borrow the bytes that they
// were parsed from and are valid until those bytes change. The results of Open
// (Message, KnockMessage) are copies and belong to the caller. Append functions
// append to dst and keep neither dst nor the message.
//
// Section names in this package's comments are those of docs/wire-formats.md.
//
// # Compatibility
//
// The package is part of the module's API: from version 1.0.0 on, programs that
// use its exported names keep compiling and working within a major version.
package protocol
