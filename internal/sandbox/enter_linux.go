package sandbox

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// Enter does what the package comment describes. Call it once, after everything
// that needs more than reading, writing and the network. Errors: ErrAccount, or
// those of the kernel; the process may then have given up some privileges, and
// should exit.
func Enter(o Options) error {
	if err := dropBounding(); err != nil {
		return fmt.Errorf("empty the bounding set of capabilities: %w", err)
	}
	if o.Account != nil {
		if err := setAccount(o.Account); err != nil {
			return err
		}
	}
	if err := dropCapabilities(o.KeepRoutes); err != nil {
		return fmt.Errorf("give up capabilities: %w", err)
	}

	if _, err := cap.Prctlw(unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("make the process undumpable: %w", err)
	}
	if o.KeepRoutes { // the filter permits opening no file, so verify first
		if err := verify(o); err != nil || !Filters() {
			return err
		}
		return enterFilter(routesCalls())
	}
	if Filters() {
		if err := enterFilter(gatewayCalls()); err != nil {
			return err
		}
	}
	return verify(o)
}

func enterFilter(c syscallList) error {
	if err := installFilter(c); err != nil {
		return fmt.Errorf("install the system call filter: %w", err)
	}
	return nil
}

// dropBounding empties the bounding set if permitted. Otherwise no_new_privs
// has the same effect: the set limits the capabilities of programs that the
// process executes.
func dropBounding() error {
	may, err := cap.GetProc().GetFlag(cap.Effective, cap.SETPCAP)
	if err != nil || !may {
		return err
	}
	for c := cap.Value(0); c < cap.MaxBits(); c++ {
		if err := cap.DropBound(c); err != nil {
			return err
		}
	}
	return nil
}

// setAccount switches to the account. The standard library applies it to all
// threads.
func setAccount(a *Account) error {
	if os.Getuid() == a.UID && os.Geteuid() == a.UID && os.Getgid() == a.GID && os.Getegid() == a.GID {
		return nil // a supervisor has switched already
	}
	for _, step := range []func() error{
		func() error { return syscall.Setgroups(nil) },
		func() error { return syscall.Setresgid(a.GID, a.GID, a.GID) },
		func() error { return syscall.Setresuid(a.UID, a.UID, a.UID) },
	} {
		if err := step(); err != nil {
			return annotate(a, err)
		}
	}
	return nil
}

func dropCapabilities(keepRoutes bool) error {
	// Kernels before 4.3 have no ambient set.
	if err := cap.ResetAmbient(); err != nil && !errors.Is(err, syscall.EINVAL) {
		return err
	}
	kept := cap.NewSet()
	if keepRoutes {
		for _, set := range []cap.Flag{cap.Permitted, cap.Effective} {
			if err := kept.SetFlag(set, true, cap.NET_ADMIN); err != nil {
				return err
			}
		}
	}
	return kept.SetProc()
}
