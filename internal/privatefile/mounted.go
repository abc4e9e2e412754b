package privatefile

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// groupRead is the only permission for others than the owner that a secret may
// have if a service manager mounts it: Kubernetes sets mode 0440 in a volume
// with an fsGroup, and systemd gives the unit's account access to a credential
// by an ACL, which appears as the permission of the group.
const groupRead fs.FileMode = 0o040

// credentialsVariable is the environment variable with the directory of a
// unit's credentials in systemd (LoadCredential=).
const credentialsVariable = "CREDENTIALS_DIRECTORY"

// An AccessError reports that accounts other than the owner can read a file.
type AccessError struct {
	Path string
	Mode fs.FileMode

	readOnly   bool // the mount is read-only, so that the mode cannot be changed
	otherOwner bool // the owner is not the account of this process
}

// Error returns the problem and what to do.
func (e *AccessError) Error() string { return e.Path + " " + e.Remedy() }

// Remedy returns the error without the name of the file.
func (e *AccessError) Remedy() string {
	open := fmt.Sprintf("is open to accounts other than its owner (mode %04o)", e.Mode)
	switch {
	case e.readOnly:
		return open + " and mounted read-only; mount it with mode 0400 (Kubernetes: defaultMode: 0400 on the volume, " +
			"or 0440 with an fsGroup; systemd: LoadCredential=)"
	case e.otherOwner:
		return open + " and belongs to another account; give it to the account that reads it, with chown, and chmod 600 it"
	default:
		return open + "; chmod 600 it"
	}
}

// CheckAccess returns an *AccessError if accounts other than its owner could
// read a file.
func CheckAccess(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return checkAccess(f, info)
}

// checkAccess rejects a file that other accounts can read. A read-only mount
// and systemd's directory of credentials are made for this process: there, a
// file of root may also be readable by a group, if the process is in that group
// or systemd has granted the access.
func checkAccess(f *os.File, info fs.FileInfo) error {
	mode := info.Mode().Perm()
	if mode&Others == 0 || runtime.GOOS == "windows" {
		return nil
	}
	readOnly := isReadOnlyMount(f)
	if mode&Others == groupRead && ownedByRoot(info) {
		if isCredential(f.Name()) || readOnly && inGroupOf(info) {
			return nil
		}
	}
	return &AccessError{Path: f.Name(), Mode: mode, readOnly: readOnly, otherOwner: !ownedBySelf(info)}
}

// isCredential reports whether path is in systemd's directory of credentials,
// with links resolved.
func isCredential(path string) bool {
	dir := os.Getenv(credentialsVariable)
	if !filepath.IsAbs(dir) {
		return false
	}
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return false
	}
	if path, err = filepath.Abs(path); err != nil {
		return false
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return false
	}
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}
