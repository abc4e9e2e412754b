//go:build !unix

package hold

import "io/fs"

// trusted does not look here, where nothing is held.
func trusted(string, fs.FileInfo) error { return nil }
