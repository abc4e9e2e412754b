package capture

import (
	"bufio"
	"compress/gzip"
	"errors"
	"io"
)

// maxPerPacket bounds what is read for one packet, and for what stands before it, in bytes: tools take packets of up to
// 256 KiB, and a block without a packet may carry keys or names. A packed file of a few MiB could have one of many GiB.
const maxPerPacket = 4 << 20

// errTooLarge says that a capture has more than that.
var errTooLarge = errors.New("a packet or block of more than 4 MiB: no capture is like that")

// gzipMagic begins what is packed with gzip (RFC 1952, section 2.3.1).
const gzipMagic = "\x1f\x8b"

// decompress is a capture as it was before gzip, if it was packed.
func decompress(r io.Reader) (*limitedReader, error) {
	in := bufio.NewReader(r)
	begin, err := in.Peek(len(gzipMagic))
	if err != nil || string(begin) != gzipMagic {
		return &limitedReader{from: in, left: maxPerPacket}, nil // whoever reads on sees the error
	}
	packed, err := gzip.NewReader(in)
	if err != nil {
		return nil, err
	}
	return &limitedReader{from: packed, left: maxPerPacket}, nil
}

// limitedReader reads as much as is left of a bound. It ends with its first error: what
// comes after that is io.EOF, so that nobody asks for ever.
type limitedReader struct {
	from io.Reader
	left int
	err  error // of the next Read
}

// Read implements io.Reader.
func (b *limitedReader) Read(p []byte) (n int, err error) {
	if err = b.err; err != nil {
		b.err = io.EOF
		return 0, err
	}
	if n, b.err = b.from.Read(p[:min(len(p), b.left)]); b.err == nil && n == b.left {
		b.err = errTooLarge
	}
	b.left -= n
	if n > 0 {
		return n, nil // an error that comes with bytes is easily overlooked
	}
	err = b.err
	if err != nil {
		b.err = io.EOF
	}
	return 0, err
}
