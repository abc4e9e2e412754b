//go:build !linux

package privatefile

import "os"

// isReadOnlyMount returns false on systems whose service managers do not mount
// secrets.
func isReadOnlyMount(*os.File) bool { return false }
