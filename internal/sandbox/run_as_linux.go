package sandbox

import (
	"fmt"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// RunAs runs f with the account's rights to files, to find out what they will
// be after Enter. The process keeps its own: only the thread that f runs on
// changes, and it ends with f. f must stay on its goroutine. RunAs requires
// root.
func RunAs(a *Account, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		done <- runAs(a, f)
	}()
	return <-done
}

func runAs(a *Account, f func() error) error {
	// Raw system calls affect one thread.
	if _, _, errno := syscall.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); errno != 0 {
		return annotate(a, errno)
	}
	for call, id := range map[uintptr]int{unix.SYS_SETFSGID: a.GID, unix.SYS_SETFSUID: a.UID} {
		// They return the previous number instead of an error.
		_, _, _ = syscall.RawSyscall(call, uintptr(id), 0, 0)
		if now, _, _ := syscall.RawSyscall(call, ^uintptr(0), 0, 0); int(int32(now)) != int(int32(id)) {
			return annotate(a, syscall.EPERM)
		}
	}
	return f()
}

// annotate adds the remedy to the error of a process that cannot switch
// accounts.
func annotate(a *Account, err error) error {
	return fmt.Errorf("%w: become %s: %w; it requires root, or CAP_SETUID and CAP_SETGID", ErrAccount, a.Name, err)
}
