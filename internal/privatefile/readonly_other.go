//go:build !linux

package privatefile

import "os"

// isReadOnlyMount is not looked at where no service manager mounts secrets.
func isReadOnlyMount(*os.File) bool { return false }
