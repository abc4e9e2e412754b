package flows

import (
	"syscall"
	"unsafe"
)

// tryRead and tryWrite read and write on a descriptor that does not block. They
// do not tell the scheduler, which would take the processor away from whoever is
// in a system call for some microseconds (syscall.RawSyscall).

func tryRead(fd uintptr, b []byte) (n int, err syscall.Errno) {
	return try(syscall.SYS_READ, fd, b)
}

func tryWrite(fd uintptr, b []byte) (n int, err syscall.Errno) {
	return try(syscall.SYS_WRITE, fd, b)
}

func try(call, fd uintptr, b []byte) (int, syscall.Errno) {
	for {
		n, _, err := syscall.RawSyscall(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b))) //nolint:gosec // system calls take addresses
		switch err {
		case 0:
			return int(n), 0
		case syscall.EINTR:
		default:
			return 0, err
		}
	}
}
