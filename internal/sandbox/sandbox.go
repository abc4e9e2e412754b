// Package sandbox gives up the privileges that a process needs only at its
// start.
//
// A gateway parses packets of unauthorized hosts. An attacker who exploits a
// mistake in that should gain a process without any privileges: no root, no
// capabilities, no way to execute another program, and only the system calls
// that moving packets takes. Enter turns the running process into such a
// process, in an order in which each step is still permitted:
//
//  1. the bounding set is emptied, if permitted (CAP_SETPCAP);
//  2. supplementary groups, group and user become those of an account without
//     privileges, if one is given;
//  3. ambient, inheritable, permitted and effective capabilities are emptied;
//  4. no_new_privs is set, so that no file's set-user-ID bit or capabilities
//     restore any privileges;
//  5. the process is made undumpable, so that no other process of that account
//     can trace it, and no core file contains the clients' secrets;
//  6. a seccomp filter is installed. It allows the system calls listed in
//     syscalls_linux.go, kills the process at those that only an attacker makes
//     (executing another program, tracing, mounting, ...), and denies all
//     others. It supports amd64 and arm64 (Filters).
//
// All steps apply to every thread, and are verified in /proc afterwards. What
// is open stays open: devices, sockets, files.
package sandbox

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"
)

// ErrAccount means that there is no such account, or that the process may not
// switch to it.
var ErrAccount = errors.New("cannot run as this account")

// Options say what the process keeps.
type Options struct {
	// Account is the account to switch to; nil leaves user and groups
	// unchanged.
	Account *Account
	// KeepRoutes keeps CAP_NET_ADMIN and allows only the system calls that set
	// routes and rules: for the process that does nothing else. Linux only.
	KeepRoutes bool
}

// An Account is a user with one group, as in the kernel.
type Account struct {
	Name     string // for messages
	UID, GID int
}

// Lookup finds an account by its name or number. Without a group it has the
// user's own. The number of a user that is unknown to the system needs a group.
func Lookup(name, group string) (*Account, error) {
	a := &Account{Name: name, GID: -1}
	u, err := user.Lookup(name)
	if number, nerr := id(name); err != nil && nerr == nil {
		a.UID = number
		u, err = user.LookupId(name)
		if err != nil && group != "" {
			u, err = nil, nil // the number suffices, as in a container without /etc/passwd
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

// maxID is the largest number of a user or group; the next one means none.
const maxID = 1<<32 - 2

func id(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n > maxID {
		return 0, fmt.Errorf("%q is not the number of a user or group", text)
	}
	return int(n), nil
}
