package privatefile

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// groupRead is the one permission beyond its owner's that a secret may have
// where a service manager mounts it: Kubernetes gives a volume with an fsGroup
// mode 0440, and systemd a credential whose access list (ACL) lets the account
// of the unit read it, which the mode shows as its group's permission.
const groupRead fs.FileMode = 0o040

// credentialsVariable names the directory that systemd puts a unit's
// credentials into (LoadCredential=).
const credentialsVariable = "CREDENTIALS_DIRECTORY"

// An AccessError says that others can read a file.
type AccessError struct {
	Path string
	Mode fs.FileMode

	readOnly   bool // its mode cannot be changed where it is
	otherOwner bool // it belongs to another account than this process's
}

// Error says what to do.
func (e *AccessError) Error() string { return e.Path + " " + e.Remedy() }

// Remedy is the error without the name of the file.
func (e *AccessError) Remedy() string {
	open := fmt.Sprintf("is open to others than its owner (mode %04o)", e.Mode)
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

// CheckAccess is an *OpenError if others than its owner could read a file, or
// nil.
func CheckAccess(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return checkAccess(f, info)
}

// checkAccess refuses a file that others can read. A read-only mount, or the
// directory of systemd's credentials, is made for this process: there a file of
// root's may be readable by a group as well, if the process is in that group or
// systemd has granted the access.
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

// isCredential reports whether path is inside the directory of systemd's
// credentials, links resolved.
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
