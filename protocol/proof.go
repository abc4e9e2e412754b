package protocol

import "crypto/subtle"

// ProofSize is the size of a server proof in bytes, in either format: two magic
// bytes, 16 bytes of the message's nonce or prefix, and a MAC. (Server proof.)
const ProofSize = 2 + proofNonce + macSize

const (
	proofNonce   = 16   // bytes of the nonce or prefix in a proof
	proofMagic   = 0x50 // second byte of every proof
	labelProofV1 = "server-proof-v1"
	labelProofV2 = "server-proof-v2"
)

// appendProof appends version || magic || nonce[0:16] || H(label || nonce ||
// hint || port).
func appendProof(dst []byte, s *Scratch, c *Client, version byte, label string, nonce, hint []byte, port uint16) []byte {
	s.msg = append(s.msg[:0], label...)
	s.msg = append(s.msg, nonce...)
	s.msg = append(s.msg, hint...)
	s.msg = append(s.msg, byte(port>>8), byte(port))
	dst = append(dst, version, proofMagic)
	dst = append(dst, nonce[:proofNonce]...)
	return append(dst, s.mac(&c.states)...)
}

// sameProof compares a proof, in constant time if the size is right.
func sameProof(got, want []byte) bool {
	return subtle.ConstantTimeCompare(got, want) == 1
}
