//go:build !unix

package cli

import (
	"io"
	"os"
)

// interruptibleInput reads f in a goroutine that nothing can interrupt here. It ends with the process, which a
// command that has read its standard input is about to.
func interruptibleInput(f *os.File) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		_, err := io.Copy(w, f)
		_ = w.CloseWithError(err) // never fails
	}()
	return r
}

func interruptibleOutput(f *os.File) io.WriteCloser { return unclosed{f} }
