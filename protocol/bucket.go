package protocol

import "io"

// maxChoice is the maximum number of buckets that one random byte chooses among.
const maxChoice = 256

// DefaultBuckets returns the default bucket sizes of envelope v2 in bytes,
// ascending, for clients and servers. The slice belongs to the caller. (TCP
// envelope v2.)
func DefaultBuckets() []int { return []int{128, 192, 256, 384, 512} }

// PickBucket picks a bucket for m uniformly among those of buckets that are
// large enough, so that an envelope's size reveals little about its content. It
// reads one byte from rand, and another for each that would make the choice
// uneven. It returns ErrNoBucket or an error of rand. buckets may be in any
// order and has at most 256 elements.
func PickBucket(buckets []int, m *Message, hint HintMode, rand io.Reader) (int, error) {
	size := envelopeSize(m, hint)
	fits := func(bucket int) bool { return bucket >= size && bucket <= MaxBucket }
	n := 0
	for _, bucket := range buckets {
		if fits(bucket) {
			n++
		}
	}
	if n == 0 || n > maxChoice {
		return 0, ErrNoBucket
	}

	var draw [1]byte
	even := maxChoice - maxChoice%n // larger draws would favor the first buckets
	for {
		if _, err := io.ReadFull(rand, draw[:]); err != nil {
			return 0, err
		}
		if int(draw[0]) < even {
			break
		}
	}

	nth := int(draw[0]) % n
	for _, bucket := range buckets {
		if !fits(bucket) {
			continue
		}
		if nth == 0 {
			return bucket, nil
		}
		nth--
	}
	return 0, ErrNoBucket // not reached: nth < n
}
