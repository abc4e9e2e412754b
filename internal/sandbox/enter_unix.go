//go:build unix && !linux

package sandbox

import (
	"fmt"
	"syscall"
)

// Enter switches to the account, which is all that it can do on this system.
// Errors: ErrAccount.
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
			return fmt.Errorf("%w: become %s: %w; it requires root", ErrAccount, a.Name, err)
		}
	}
	return nil
}
