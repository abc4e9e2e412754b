package config

import (
	"path/filepath"

	"github.com/knockgw/knockgw/internal/secretfile"
)

// readSecretFile reads the secret in the named file, relative to the directory
// base.
func readSecretFile(base, name string) (Secret, error) {
	if !filepath.IsAbs(name) {
		name = filepath.Join(base, name)
	}
	return secretfile.Read(name)
}

// ReadSecretFile reads the secret in a file, by the rules of the key
// secret_file: readable only by its owner, with one line in the syntax of the
// key secret.
func ReadSecretFile(path string) (Secret, error) { return secretfile.Read(path) }
