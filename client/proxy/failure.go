package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
)

// UnknownServiceError reports that an address is not one of the services.
type UnknownServiceError struct {
	Address  string   // the requested address
	Services []string // the names of the services
}

// Error returns the address and the names of the services.
func (e *UnknownServiceError) Error() string {
	if len(e.Services) == 0 {
		return fmt.Sprintf("%s is not a service; there are no services", e.Address)
	}
	return fmt.Sprintf("%s is not one of the services: %s", e.Address, strings.Join(e.Services, ", "))
}

// reply reports in both protocols why a service was not reached.
type reply struct {
	code   byte // of the SOCKS5 reply
	status int  // of the HTTP response
}

// classify returns the reply for an error of Dial.
func classify(err error) reply {
	var (
		unknown *UnknownServiceError
		lookup  *net.DNSError
		network net.Error
	)
	switch {
	case errors.As(err, &unknown):
		return reply{notAllowed, http.StatusForbidden}
	case errors.Is(err, syscall.ECONNREFUSED):
		return reply{connectionRefused, http.StatusBadGateway}
	case errors.Is(err, syscall.ENETUNREACH):
		return reply{networkUnreachable, http.StatusBadGateway}
	case errors.Is(err, syscall.EHOSTUNREACH), errors.As(err, &lookup):
		return reply{hostUnreachable, http.StatusBadGateway}
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		// Hidden services refuse by silence.
		return reply{hostUnreachable, http.StatusGatewayTimeout}
	default:
		return reply{generalFailure, http.StatusBadGateway}
	}
}
