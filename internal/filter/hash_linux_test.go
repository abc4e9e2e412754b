package filter

import "testing"

// SipHash-1-3 of the bytes 0 to 39 under the key 0 to 15, of an implementation
// that has the reference's vectors right for SipHash-2-4.
func TestHashIsSipHash13(t *testing.T) {
	s := secret{0x0706050403020100, 0x0f0e0d0c0b0a0908}
	var k key
	for i := range k {
		k[i] = s[0] + uint64(i)*0x0808080808080808
	}
	if got, want := s.hash(&k), uint64(0xc1d2363299e41531); got != want {
		t.Errorf("%x, want %x", got, want)
	}
}
