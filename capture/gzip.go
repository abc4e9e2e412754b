package capture

import (
	"bufio"
	"compress/gzip"
	"errors"
	"io"
)

// maxPerPacket bounds what is read for one packet, and for the blocks before
// it, in bytes. Tools capture packets of up to 256 KiB, and a block without a
// packet may contain keys or names. A compressed file of a few MiB could expand
// to many GiB.
const maxPerPacket = 4 << 20

// errTooLarge means that a capture exceeds maxPerPacket.
var errTooLarge = errors.New("a packet or block exceeds 4 MiB")

// gzipMagic begins data compressed with gzip (RFC 1952, section 2.3.1).
const gzipMagic = "\x1f\x8b"

// decompress returns the content of a capture, which may be compressed with
// gzip.
func decompress(r io.Reader) (*limitedReader, error) {
	in := bufio.NewReader(r)
	begin, err := in.Peek(len(gzipMagic))
	if err != nil || string(begin) != gzipMagic {
		return &limitedReader{from: in, left: maxPerPacket}, nil // the next read returns the error
	}
	packed, err := gzip.NewReader(in)
	if err != nil {
		return nil, err
	}
	return &limitedReader{from: packed, left: maxPerPacket}, nil
}

// A limitedReader reads up to a limit. After its first error it returns io.EOF,
// so that no caller retries forever.
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
		return n, nil // the error is returned by the next call
	}
	err = b.err
	if err != nil {
		b.err = io.EOF
	}
	return 0, err
}
