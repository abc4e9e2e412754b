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

// An UnknownServiceError says that an address is none of the services that can be reached.
type UnknownServiceError struct {
	Address  string   // what was asked for
	Services []string // the names that could have been
}

// Error says what there is instead.
func (e *UnknownServiceError) Error() string {
	if len(e.Services) == 0 {
		return fmt.Sprintf("%s is none of the services, of which there are none", e.Address)
	}
	return fmt.Sprintf("%s is none of the services: %s", e.Address, strings.Join(e.Services, ", "))
}

// reply is why a service was not reached, as the two protocols say it.
type reply struct {
	code   byte // of a SOCKS5 reply
	status int  // of an HTTP response
}

// classify classifies an error of Dial.
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
		// The way of hidden services to say no.
		return reply{hostUnreachable, http.StatusGatewayTimeout}
	default:
		return reply{generalFailure, http.StatusBadGateway}
	}
}
