//go:build !linux

package cli

// availableMemory is not known on this system.
func availableMemory() int64 { return 0 }
