//go:build !windows

package client

import "syscall"

const (
	connectionRefused  = syscall.ECONNREFUSED
	connectionReset    = syscall.ECONNRESET
	networkUnreachable = syscall.ENETUNREACH
	addressUnavailable = syscall.EADDRNOTAVAIL
)
