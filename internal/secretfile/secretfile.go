// Package secretfile reads a file that has one secret in it. Every part of
// knockgw that is given such a file reads it here, so that the same file is the
// same secret on both sides.
package secretfile

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/knockgw/knockgw/internal/privatefile"
	"github.com/knockgw/knockgw/protocol"
)

// MaxSize is the largest file that is read, in bytes: far above any secret, and
// below what would cost memory.
const MaxSize = 64 << 10

// Read reads the secret in the file at path, which others cannot read
// (privatefile.Read). Its errors name the file and the remedy.
func Read(path string) (protocol.Secret, error) {
	data, err := privatefile.Read(path, MaxSize)
	if system := (*fs.PathError)(nil); errors.As(err, &system) && system.Op == "open" {
		return nil, fmt.Errorf("%w; make the file with knockgw keygen, or correct the path", err)
	}
	if err != nil {
		return nil, err
	}
	secret, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return secret, nil
}

// Parse is the secret that a file with this content means: one line, spelt as
// the key secret of a configuration, whose end (LF or CRLF) is not part of it.
// What could mean two different secrets is refused (protocol.ParseSecret).
func Parse(data []byte) (protocol.Secret, error) {
	text, ended := strings.CutSuffix(string(data), "\n")
	if ended {
		text = strings.TrimSuffix(text, "\r")
	}
	return protocol.ParseSecret(text)
}
