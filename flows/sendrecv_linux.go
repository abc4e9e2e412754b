package flows

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix" // package syscall has no number for these on 386
)

// recv and send read from and write to a socket without blocking, except for
// its other users in the kernel. They do not notify the scheduler, which would
// hand the processor of a goroutine in a system call to another after some
// microseconds (syscall.RawSyscall).

func recv(fd uintptr, b []byte) (n int, err syscall.Errno) {
	return retryEINTR(unix.SYS_RECVFROM, fd, b, syscall.MSG_DONTWAIT)
}

func send(fd uintptr, b []byte) (n int, err syscall.Errno) {
	return retryEINTR(unix.SYS_SENDTO, fd, b, syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
}

func retryEINTR(call, fd uintptr, b []byte, flags uintptr) (int, syscall.Errno) {
	for {
		n, _, err := syscall.RawSyscall6(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags, 0, 0) //nolint:gosec // system calls take addresses
		switch err {
		case 0:
			return int(n), 0
		case syscall.EINTR:
		default:
			return 0, err
		}
	}
}
