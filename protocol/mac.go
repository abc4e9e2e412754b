package protocol

import (
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"hash"
)

// Sizes that several formats share, in bytes.
const (
	hintSize       = 8           // a hint: enough to distinguish clients, not to authenticate
	clientHashSize = 16          // the client hash sealed in every message
	tagSize        = 16          // the Poly1305 tag of both AEADs
	keySize        = 32          // a ChaCha20 key, and the output of the HKDF
	portSize       = 2           // u16 port
	timeSize       = 8           // u64 Unix milliseconds
	ipad           = 0x36        // RFC 2104: XORed with the key for the inner hash
	opad           = 0x5c        // RFC 2104: XORed with the key for the outer hash
	macSize        = sha256.Size // HMAC-SHA256, untruncated
	macBlock       = sha256.BlockSize
	hkdfFirst      = 0x01 // RFC 5869: the counter of the first (and only) output block
	scratchMessage = 256  // the longest MAC input (without a client ID) has less than 100 bytes
	scratchPlain   = 1024 // the plaintext of a message of the default maximum size
)

// Scratch is the working memory of a goroutine: a digest, and buffers for MAC
// inputs, keys and plaintexts. With it, refusing a message does not allocate. A
// Scratch has no state between calls. It is not safe for concurrent use.
type Scratch struct {
	digest  hash.Hash                  // SHA-256
	restore encoding.BinaryUnmarshaler // the same digest
	msg     []byte                     // input of the MAC in progress
	sum     [macSize]byte              // the last MAC's output
	prk     [macSize]byte              // HKDF's intermediate key
	key     [keySize]byte              // the AEAD key
	block   [macBlock]byte             // a padded HMAC key
	aad     []byte                     // associated data
	plain   []byte                     // the opened message, which is parsed and copied
}

// NewScratch returns working memory for one goroutine, about 2 KiB.
func NewScratch() *Scratch {
	digest := sha256.New()
	return &Scratch{
		digest: digest,
		// crypto/sha256 documents that its digests can be restored; tests check
		// it.
		restore: digest.(encoding.BinaryUnmarshaler),
		msg:     make([]byte, 0, scratchMessage),
		aad:     make([]byte, 0, scratchMessage),
		plain:   make([]byte, 0, scratchPlain),
	}
}

// midstates are the SHA-256 states after the inner and the outer padded key of
// an HMAC: all that an HMAC needs of a fixed key.
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
		if err != nil { // impossible: the state of a new digest always marshals
			panic("protocol: sha256 state does not marshal: " + err.Error())
		}
		return marshalled
	}
	return midstates{inner: state(ipad), outer: state(opad)}
}

// padKey fills block with key (at most one block), zero-extended and XORed with
// pad.
func padKey(block *[macBlock]byte, key []byte, pad byte) {
	for i := range block {
		block[i] = pad
	}
	for i, k := range key {
		block[i] ^= k
	}
}

// begin starts H(...) under the midstates' key; write the input to s.digest.
func (s *Scratch) begin(m *midstates) { s.resume(m.inner) }

// finish ends the MAC that begin started. The result is in s.sum, valid until
// the next MAC.
func (s *Scratch) finish(m *midstates) []byte {
	inner := s.digest.Sum(s.sum[:0])
	s.resume(m.outer)
	s.digest.Write(inner)
	return s.digest.Sum(s.sum[:0])
}

// mac returns H(s.msg), valid until the next MAC.
func (s *Scratch) mac(m *midstates) []byte {
	s.begin(m)
	s.digest.Write(s.msg)
	return s.finish(m)
}

func (s *Scratch) resume(state []byte) {
	if err := s.restore.UnmarshalBinary(state); err != nil {
		// impossible: the same package marshalled the state in the same process
		panic("protocol: sha256 state does not restore: " + err.Error())
	}
}

// hmac sets out to HMAC-SHA256(key, msg), for keys of at most one block: nonces
// and HKDF keys, which change with every message and so have no midstates. out
// may be key.
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

// hkdf returns HKDF-SHA256(ikm, salt, info = s.msg) of 32 bytes, in s.key (RFC
// 5869). A key is one block of output, so expansion is one HMAC. salt is at
// most one block. (Conventions.)
func (s *Scratch) hkdf(ikm, salt []byte) []byte {
	s.hmac(&s.prk, salt, ikm)
	s.msg = append(s.msg, hkdfFirst)
	s.hmac(&s.key, s.prk[:], s.msg)
	return s.key[:]
}

// hintMessage sets s.msg to the input of hints and route hints: label || nonce
// || port.
func (s *Scratch) hintMessage(label string, nonce []byte, port uint16) {
	s.msg = append(s.msg[:0], label...)
	s.msg = append(s.msg, nonce...)
	s.msg = binary.BigEndian.AppendUint16(s.msg, port)
}
