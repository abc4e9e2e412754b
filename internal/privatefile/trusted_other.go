//go:build !linux

package privatefile

// trustedDirectory is for systems where a directory can be named by its
// descriptor; elsewhere, the name is what it is.
func trustedDirectory(dir string) (name string, release func() error, err error) {
	return dir, func() error { return nil }, nil
}
