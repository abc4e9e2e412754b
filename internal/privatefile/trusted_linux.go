package privatefile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks limits the symbolic links in a path, as in the kernel (ELOOP).
const maxLinks = 40

// trustedDirectory opens a directory as root, and returns a path that no other
// account can redirect. Root follows only links that root owns, in directories
// that others cannot write to: any other link could be changed by its owner to
// point to a directory in which only root can write. For other accounts it
// returns dir.
func trustedDirectory(dir string) (name string, release func() error, err error) {
	if os.Geteuid() != 0 {
		return dir, func() error { return nil }, nil
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", nil, err
	}
	fd, err := openTrusted(abs)
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", dir, err)
	}
	return fmt.Sprintf("/proc/self/fd/%d", fd), func() error { return unix.Close(fd) }, nil
}

// openTrusted opens an absolute path component by component.
func openTrusted(path string) (int, error) {
	fd, err := openAt(unix.AT_FDCWD, "/")
	rest, links := components(path), 0
	for err == nil && len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]

		var next int
		next, err = openAt(fd, name)
		if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
			var target string
			if target, err = trustedLink(fd, name); err != nil {
				break
			}
			if links++; links > maxLinks {
				err = unix.ELOOP
				break
			}
			rest = append(components(target), rest...)
			if !filepath.IsAbs(target) {
				continue // relative to the same directory
			}
			next, err = openAt(unix.AT_FDCWD, "/")
		}
		if err == nil {
			_ = unix.Close(fd) // a parent directory
			fd = next
		}
	}

	if err != nil && fd >= 0 {
		_ = unix.Close(fd) // err is the error to report
	}
	return fd, err
}

func openAt(dir int, name string) (int, error) {
	return unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// components returns the non-empty components of a path.
func components(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

// trustedLink returns the target of a link, if root owns the link and its
// directory, and others cannot write to the directory.
func trustedLink(dir int, name string) (string, error) {
	const othersWrite = 0o022
	var in, link unix.Stat_t
	if err := errors.Join(unix.Fstat(dir, &in), unix.Fstatat(dir, name, &link, unix.AT_SYMLINK_NOFOLLOW)); err != nil {
		return "", err
	}
	if link.Mode&unix.S_IFMT != unix.S_IFLNK {
		return "", unix.ENOTDIR
	}
	if in.Uid != 0 || link.Uid != 0 || in.Mode&othersWrite != 0 && in.Mode&unix.S_ISVTX == 0 {
		return "", fmt.Errorf("%s is a link that an account other than root can change, and root does not follow it; "+
			"name the directory itself, or run this as its owner", name)
	}
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, target)
	if err != nil {
		return "", err
	}
	return string(target[:n]), nil
}
