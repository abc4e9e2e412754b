//go:build !unix

package privatefile

import (
	"io/fs"
	"os"
)

// There is nothing to do where files have no owner of this sort.

const nonblock = 0

func chownToParent(*os.File, string) error { return nil }
func chownDirToParent(string) error        { return nil }

// Permissions are not looked at there either.
func ownedByRoot(fs.FileInfo) bool { return false }
func ownedBySelf(fs.FileInfo) bool { return true }
func inGroupOf(fs.FileInfo) bool   { return false }
