//go:build !unix

package privatefile

import (
	"io/fs"
	"os"
)

// On systems without Unix owners there is nothing to do.

const nonblock = 0

func chownToParent(*os.File, string) error { return nil }
func chownDirToParent(string) error        { return nil }

// Permissions are not checked there either.
func ownedByRoot(fs.FileInfo) bool { return false }
func ownedBySelf(fs.FileInfo) bool { return true }
func inGroupOf(fs.FileInfo) bool   { return false }
