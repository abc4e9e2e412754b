//go:build !linux

package privatefile

// trustedDirectory returns dir on systems where a path cannot refer to a file
// descriptor.
func trustedDirectory(dir string) (name string, release func() error, err error) {
	return dir, func() error { return nil }, nil
}
