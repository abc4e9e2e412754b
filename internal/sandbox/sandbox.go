// Package sandbox gives up, for the rest of a process's life, what only its
// start needed.
//
// A gateway parses what strangers send. Whoever finds a mistake in that should
// get a process that owns nothing: no root, no capability, no way to another
// program, and of the kernel only the calls that moving packets takes. Enter
// makes that of the running process, in an order in which each step is still
// permitted:
//
//  1. the bounding set is emptied, where that is permitted (CAP_SETPCAP);
//  2. supplementary groups, group and user become those of an account without
//     privileges, if one is given;
//  3. ambient, inheritable, permitted and effective capabilities are emptied;
//  4. no_new_privs is set, so that no file's set-user-ID bit or capabilities
//     bring any of it back;
//  5. the process is made undumpable, so that no other process of that account
//     can trace it and no core file has the clients' secrets in it;
//  6. a seccomp filter is put before the kernel. It allows the system calls
//     listed in calls_linux.go, kills the process at those that only an intruder
//     makes (another program, tracing, mounting, ...), and refuses all others. It
//     is for amd64 and arm64 (Filters).
//
// All of it holds for every thread, and is looked at in /proc afterwards. What
// is open stays open: devices, sockets, files.
package sandbox

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"
)

// ErrAccount says that an account cannot be had: there is none of that name, or
// the process may not become another than it is.
var ErrAccount = errors.New("cannot run as this account")

// Options say what becomes of the process.
type Options struct {
	// Account is whom the process becomes; nil leaves user and groups as they are.
	Account *Account
	// KeepRoutes keeps CAP_NET_ADMIN and, of the system calls, those that take it to
	// set routes and rules: for the process that does nothing else. Linux only.
	KeepRoutes bool
}

// An Account is a user with one group, as the kernel knows them.
type Account struct {
	Name     string // for messages
	UID, GID int
}

// Lookup finds an account by its name or number. Without a group it is the
// user's own; a user's number that the system has no name for needs one.
func Lookup(name, group string) (*Account, error) {
	a := &Account{Name: name, GID: -1}
	u, err := user.Lookup(name)
	if number, nerr := id(name); err != nil && nerr == nil {
		a.UID = number
		u, err = user.LookupId(name)
		if err != nil && group != "" {
			u, err = nil, nil // a number will do, as in a container without /etc/passwd
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: user %q: %w", ErrAccount, name, err)
	}
	if u != nil {
		if a.UID, err = id(u.Uid); err == nil {
			a.GID, err = id(u.Gid)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: user %q: %w", ErrAccount, name, err)
		}
	}
	if group != "" {
		if a.GID, err = lookupGroup(group); err != nil {
			return nil, fmt.Errorf("%w: group %q: %w", ErrAccount, group, err)
		}
	}
	if a.UID == 0 {
		return nil, fmt.Errorf("%w: %q is root; name one without privileges", ErrAccount, name)
	}
	return a, nil
}

func lookupGroup(group string) (int, error) {
	g, err := user.LookupGroup(group)
	if err == nil {
		return id(g.Gid)
	}
	if number, nerr := id(group); nerr == nil {
		return number, nil
	}
	return 0, err
}

// maxID is the largest number of a user or group; the one above means none.
const maxID = 1<<32 - 2

func id(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n > maxID {
		return 0, fmt.Errorf("%q is no number of a user or group", text)
	}
	return int(n), nil
}
