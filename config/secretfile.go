package config

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/knockgw/knockgw/internal/privatefile"
	"github.com/knockgw/knockgw/protocol"
)

// readSecretFile reads the secret in the file of that name, relative to the directory base. The file's
// content, less one line end, is spelt as the key secret is.
func readSecretFile(base, name string) (Secret, error) {
	if !filepath.IsAbs(name) {
		name = filepath.Join(base, name)
	}
	text, err := privatefile.Read(name, maxSecret)
	if system := (*fs.PathError)(nil); errors.As(err, &system) && system.Op == "open" {
		return nil, fmt.Errorf("%w; make the file with knockgw keygen, or correct the path", err)
	}
	if err != nil {
		return nil, err
	}
	secret, err := protocol.ParseSecret(strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r"))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return secret, nil
}

// ReadSecretFile reads the secret in a file, by the rules of the key secret_file: readable by its owner
// only, spelt as the key secret is, less one line end.
func ReadSecretFile(path string) (Secret, error) { return readSecretFile("", path) }
