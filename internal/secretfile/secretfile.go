// Package secretfile reads a file that contains one secret. Every part of
// knockgw that takes such a file reads it with this package, so that the same
// file means the same secret to the gateway and to the client.
package secretfile

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/knockgw/knockgw/internal/privatefile"
	"github.com/knockgw/knockgw/protocol"
)

// MaxSize is the largest file that Read accepts, in bytes: far more than any
// secret, and little memory.
const MaxSize = 64 << 10

// Read reads the secret in the file at path, which only its owner may be able to
// read (privatefile.Read). Its errors name the file and the remedy.
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

// Parse returns the secret in a file with this content: one line, in the syntax
// of the configuration key secret. The line ending (LF or CRLF) is not part of
// it. Content that could mean two different secrets is an error
// (protocol.ParseSecret).
func Parse(data []byte) (protocol.Secret, error) {
	text, ended := strings.CutSuffix(string(data), "\n")
	if ended {
		text = strings.TrimSuffix(text, "\r")
	}
	return protocol.ParseSecret(text)
}
