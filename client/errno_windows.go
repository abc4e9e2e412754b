package client

import "syscall"

// The error numbers of Winsock, which differ from the constants of these names
// in package syscall.
const (
	connectionRefused  = syscall.Errno(10061) // WSAECONNREFUSED
	connectionReset    = syscall.Errno(10054) // WSAECONNRESET
	networkUnreachable = syscall.Errno(10051) // WSAENETUNREACH
	addressUnavailable = syscall.Errno(10049) // WSAEADDRNOTAVAIL
)
