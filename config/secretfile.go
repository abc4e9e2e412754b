package config

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/knockgw/knockgw/protocol"
)

// othersBits are the permissions of anybody but a file's owner.
const othersBits fs.FileMode = 0o077

// readSecretFile reads the secret in the file of that name, relative to the directory base. The file's
// content, less one line end, is spelt as the key secret is.
func readSecretFile(base, name string) (Secret, error) {
	if !filepath.IsAbs(name) {
		name = filepath.Join(base, name)
	}
	f, err := os.Open(name) // the operator names it
	if err != nil {
		return nil, fmt.Errorf("%w; make the file with knockgw keygen, or correct the path", err)
	}
	defer f.Close() //nolint:errcheck // only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file; name one", name)
	}
	if private := info.Mode().Perm()&othersBits == 0; !private && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("%s is open to others than its owner (mode %04o); chmod 600 it", name, info.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxSecret {
		return nil, fmt.Errorf("%s has more than %d bytes; is it the right file?", name, maxSecret)
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
