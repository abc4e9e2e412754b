package cli

import (
	"io"
	"os"
)

// input is r with a Close that wakes a Read that waits. A file is not closed by it.
func input(r io.Reader) io.ReadCloser {
	switch r := r.(type) {
	case *os.File:
		return interruptibleInput(r)
	case io.ReadCloser:
		return r
	default:
		return io.NopCloser(r)
	}
}

// output is w with a Close that wakes a Write that waits. A file is not closed by it.
func output(w io.Writer) io.WriteCloser {
	switch w := w.(type) {
	case *os.File:
		return interruptibleOutput(w)
	case io.WriteCloser:
		return w
	default:
		return unclosed{w}
	}
}

// unclosed is a Writer that has no Close.
type unclosed struct{ io.Writer }

func (unclosed) Close() error { return nil }
