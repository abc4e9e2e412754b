//go:build !unix

package stdio

import (
	"io"
	"os"
)

// interruptibleReader reads f in a goroutine that cannot be interrupted here. It
// ends with the process, which exits soon after its standard input is read.
func interruptibleReader(f *os.File) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		_, err := io.Copy(w, f)
		_ = w.CloseWithError(err) // never fails
	}()
	return r
}

func interruptibleWriter(f *os.File) io.WriteCloser { return nopCloser{f} }
