package client

import "syscall"

// Winsock's own numbers, which package syscall's of these names are not.
const (
	connectionRefused  = syscall.Errno(10061) // WSAECONNREFUSED
	connectionReset    = syscall.Errno(10054) // WSAECONNRESET
	networkUnreachable = syscall.Errno(10051) // WSAENETUNREACH
	addressUnavailable = syscall.Errno(10049) // WSAEADDRNOTAVAIL
)
