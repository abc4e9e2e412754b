//go:build unix && !linux

package sandbox

import (
	"fmt"
	"syscall"
)

// Enter makes the process one of the account's: on this system there is no more
// that it could give up. Errors: ErrAccount.
func Enter(o Options) error {
	a := o.Account
	if a == nil || syscall.Getuid() == a.UID && syscall.Geteuid() == a.UID {
		return nil
	}
	for _, step := range []func() error{
		func() error { return syscall.Setgroups([]int{a.GID}) },
		func() error { return syscall.Setgid(a.GID) },
		func() error { return syscall.Setuid(a.UID) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("%w: become %s: %w; that takes root", ErrAccount, a.Name, err)
		}
	}
	return nil
}
