// Package stdio reads and writes standard input and output in a way that Close
// can interrupt.
package stdio

import (
	"io"
	"os"
)

// Reader returns r with a Close that interrupts a blocked Read. It does not
// close a file.
func Reader(r io.Reader) io.ReadCloser {
	switch r := r.(type) {
	case *os.File:
		return interruptibleReader(r)
	case io.ReadCloser:
		return r
	default:
		return io.NopCloser(r)
	}
}

// Writer returns w with a Close that interrupts a blocked Write. It does not
// close a file.
func Writer(w io.Writer) io.WriteCloser {
	switch w := w.(type) {
	case *os.File:
		return interruptibleWriter(w)
	case io.WriteCloser:
		return w
	default:
		return nopCloser{w}
	}
}

// nopCloser is a Writer without a Close of its own.
type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
