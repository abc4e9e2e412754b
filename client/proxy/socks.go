package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
)

// The fields of SOCKS5 messages (RFC 1928, sections 3 to 6).
const (
	socksVersion = 5

	methodNone         = 0x00 // no authentication required
	methodUnacceptable = 0xff

	commandConnect = 1

	typeIPv4 = 1
	typeName = 3
	typeIPv6 = 4
)

// The codes of a reply (section 6).
const (
	succeeded                = 0x00
	generalFailure           = 0x01
	notAllowed               = 0x02
	networkUnreachable       = 0x03
	hostUnreachable          = 0x04
	connectionRefused        = 0x05
	commandNotSupported      = 0x07
	addressTypeUnknown       = 0x08
	noReply             byte = 0xff // internal: close without a reply
)

// SOCKS4 supports neither names nor IPv6. It is refused with a reply.
const (
	socks4Version  = 4
	socks4Rejected = 91 // request rejected or failed
)

var errSOCKS4 = errors.New("SOCKS4 is not supported; configure the program to use SOCKS5 with names resolved by the proxy (socks5h)")

func socks4Refusal() []byte { return []byte{0, socks4Rejected, 0, 0, 0, 0, 0, 0} }

// socksError is the reason why a request is refused.
type socksError struct {
	code byte
	err  error
}

func (e *socksError) Error() string { return "SOCKS5: " + e.err.Error() }
func (e *socksError) Unwrap() error { return e.err }

// socksHandshake reads a client's greeting, whose first byte was already read,
// and its request, and returns the requested address. It reads no bytes beyond
// the request, since a client may send data early. The error is a *socksError,
// or one of rw.
func socksHandshake(rw io.ReadWriter) (string, error) {
	// The greeting: version, number of methods, methods.
	b := make([]byte, 256)
	if _, err := io.ReadFull(rw, b[:1]); err != nil {
		return "", err
	}
	methods := b[:b[0]]
	if _, err := io.ReadFull(rw, methods); err != nil {
		return "", err
	}
	if !slices.Contains(methods, methodNone) {
		_, err := rw.Write([]byte{socksVersion, methodUnacceptable})
		return "", errors.Join(&socksError{noReply, errors.New("the client requires authentication; configure the program without a user and a password")}, err)
	}
	if _, err := rw.Write([]byte{socksVersion, methodNone}); err != nil {
		return "", err
	}

	// The request: version, command, 0, type of the address, address, port.
	if _, err := io.ReadFull(rw, b[:4]); err != nil {
		return "", err
	}
	version, command, kind := b[0], b[1], b[3]
	if version != socksVersion {
		return "", &socksError{generalFailure, fmt.Errorf("the request has version %d instead of 5", version)}
	}

	host, port, err := socksAddress(rw, kind, b)
	switch {
	case err != nil:
		return "", err
	case command != commandConnect: // checked last, when the whole request was read
		return "", &socksError{commandNotSupported, fmt.Errorf("command %d is not supported; use CONNECT (1)", command)}
	}
	to, err := normalizeAddress(host, port)
	if err != nil {
		return "", &socksError{notAllowed, err}
	}
	return to, nil
}

// socksAddress reads an address of the given type, and a port. b is a buffer of
// 256 bytes.
func socksAddress(r io.Reader, kind byte, b []byte) (host string, port uint16, err error) {
	size := 0
	switch kind {
	case typeIPv4:
		size = 4
	case typeIPv6:
		size = 16
	case typeName:
		if _, err := io.ReadFull(r, b[:1]); err != nil {
			return "", 0, err
		}
		size = int(b[0])
	default:
		return "", 0, &socksError{addressTypeUnknown, fmt.Errorf("address type %d is not supported", kind)}
	}

	if _, err := io.ReadFull(r, b[:size]); err != nil {
		return "", 0, err
	}
	host = string(b[:size])
	if ip, ok := netip.AddrFromSlice(b[:size]); ok && kind != typeName {
		host = ip.String()
	}
	if _, err := io.ReadFull(r, b[:2]); err != nil {
		return "", 0, err
	}
	return host, binary.BigEndian.Uint16(b), nil
}

// socksReply returns a reply. Its bound address, that of the connection to the
// service, is not disclosed: it is 0.0.0.0:0, as with many servers.
func socksReply(code byte) []byte {
	return []byte{socksVersion, code, 0, typeIPv4, 0, 0, 0, 0, 0, 0}
}
