package protocol

import (
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"hash"
)

// Sizes that several formats share, in bytes.
const (
	hintSize       = 8           // a hint: enough to tell clients apart, not to authenticate
	clientHashSize = 16          // the client hash sealed in every message
	tagSize        = 16          // the Poly1305 tag of both AEADs
	keySize        = 32          // a ChaCha20 key, and so the output of the HKDF
	portSize       = 2           // u16 port
	timeSize       = 8           // u64 Unix milliseconds
	ipad           = 0x36        // RFC 2104: XORed to the key for the inner hash
	opad           = 0x5c        // RFC 2104: XORed to the key for the outer hash
	macSize        = sha256.Size // HMAC-SHA256, untruncated
	macBlock       = sha256.BlockSize
	hkdfFirst      = 0x01 // RFC 5869: the counter of the first (here: only) output block
	scratchMessage = 256  // the longest MAC input (without a client id) is under 100 bytes
	scratchPlain   = 1024 // what a message of the default largest size opens into
)

// Scratch is the working memory of one goroutine: one digest and the buffers that MAC inputs, keys and
// plaintexts pass through. With it, refusing a message allocates nothing. A Scratch carries nothing
// from one call to the next. It is not safe for concurrent use.
type Scratch struct {
	digest  hash.Hash                  // SHA-256
	restore encoding.BinaryUnmarshaler // the same digest
	msg     []byte                     // input of the MAC in progress
	sum     [macSize]byte              // the last MAC's output
	prk     [macSize]byte              // HKDF's intermediate key
	key     [keySize]byte              // the AEAD key
	block   [macBlock]byte             // a padded HMAC key
	aad     []byte                     // associated data put together from pieces
	plain   []byte                     // the opened message; parsed, copied out, overwritten
}

// NewScratch returns working memory for one goroutine, about 2 KiB.
func NewScratch() *Scratch {
	digest := sha256.New()
	return &Scratch{
		digest: digest,
		// crypto/sha256 documents that its digests can be restored; see the package's tests.
		restore: digest.(encoding.BinaryUnmarshaler),
		msg:     make([]byte, 0, scratchMessage),
		aad:     make([]byte, 0, scratchMessage),
		plain:   make([]byte, 0, scratchPlain),
	}
}

// midstates are the SHA-256 states after the inner and the outer padded key of an HMAC: all that an
// HMAC under one fixed key ever needs of it.
type midstates struct {
	inner, outer []byte
}

func newMidstates(secret []byte) midstates {
	key := secret
	if len(key) > macBlock { // RFC 2104: longer keys are hashed first
		sum := sha256.Sum256(key)
		key = sum[:]
	}
	state := func(pad byte) []byte {
		var block [macBlock]byte
		padKey(&block, key, pad)
		digest := sha256.New()
		digest.Write(block[:])
		marshalled, err := digest.(encoding.BinaryMarshaler).MarshalBinary()
		if err != nil { // never: the state of a fresh digest always marshals
			panic("protocol: sha256 state does not marshal: " + err.Error())
		}
		return marshalled
	}
	return midstates{inner: state(ipad), outer: state(opad)}
}

// padKey fills block with key, at most a block long, zero-extended and XORed with pad.
func padKey(block *[macBlock]byte, key []byte, pad byte) {
	for i := range block {
		block[i] = pad
	}
	for i, k := range key {
		block[i] ^= k
	}
}

// begin starts H(...) under the midstates' key; write what is to be authenticated to s.digest.
func (s *Scratch) begin(m *midstates) { s.resume(m.inner) }

// finish ends the MAC that begin started. The result is s.sum's, until the next MAC.
func (s *Scratch) finish(m *midstates) []byte {
	inner := s.digest.Sum(s.sum[:0])
	s.resume(m.outer)
	s.digest.Write(inner)
	return s.digest.Sum(s.sum[:0])
}

// mac is H(s.msg), good until the next MAC.
func (s *Scratch) mac(m *midstates) []byte {
	s.begin(m)
	s.digest.Write(s.msg)
	return s.finish(m)
}

func (s *Scratch) resume(state []byte) {
	if err := s.restore.UnmarshalBinary(state); err != nil {
		// never: the state was marshalled by the same package in the same process
		panic("protocol: sha256 state does not restore: " + err.Error())
	}
}

// hmac puts HMAC-SHA256(key, msg) into out, for keys of at most one block: nonces and HKDF keys, which
// change with every message and so have no midstates. out may be key.
func (s *Scratch) hmac(out *[macSize]byte, key, msg []byte) {
	padKey(&s.block, key, ipad)
	s.digest.Reset()
	s.digest.Write(s.block[:])
	s.digest.Write(msg)
	inner := s.digest.Sum(s.sum[:0])
	padKey(&s.block, key, opad)
	s.digest.Reset()
	s.digest.Write(s.block[:])
	s.digest.Write(inner)
	s.digest.Sum(out[:0])
}

// hkdf is HKDF-SHA256(ikm, salt, info = s.msg) of 32 bytes, in s.key (RFC 5869). One block of output
// is all that a key takes, so expansion is one HMAC. salt is at most a block long. (Conventions.)
func (s *Scratch) hkdf(ikm, salt []byte) []byte {
	s.hmac(&s.prk, salt, ikm)
	s.msg = append(s.msg, hkdfFirst)
	s.hmac(&s.key, s.prk[:], s.msg)
	return s.key[:]
}

// hintMessage sets s.msg to the input that hints and route hints are made of: label || nonce || port.
func (s *Scratch) hintMessage(label string, nonce []byte, port uint16) {
	s.msg = append(s.msg[:0], label...)
	s.msg = append(s.msg, nonce...)
	s.msg = binary.BigEndian.AppendUint16(s.msg, port)
}
