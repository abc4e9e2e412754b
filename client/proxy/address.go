package proxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// maxHostLen is the length limit of a host name in bytes: that of the length
// byte of SOCKS5, and of DNS.
const maxHostLen = 255

// errHost reports a host that is not valid. It does not repeat the host, which
// is input from outside.
var errHost = errors.New("the host is neither a name nor an IP address")

// normalizeAddress returns host:port as it is passed to Dial: names in lower
// case and without a trailing dot, IP addresses in their canonical form, so
// that they can be compared with the address of a service. A name has no empty
// label, so that normalizing the result does not change it.
func normalizeAddress(host string, port uint16) (string, error) {
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	// With a trailing dot it may be an address, too: "192.0.2.1.".
	for _, form := range []string{host, name} {
		if ip, err := netip.ParseAddr(form); err == nil {
			return netip.AddrPortFrom(ip.Unmap(), port).String(), nil
		}
	}
	if len(name) > maxHostLen || !isName(name) {
		return "", errHost
	}
	if port == 0 {
		return "", errors.New("the port is 0; write a number from 1 to 65535")
	}
	return net.JoinHostPort(name, strconv.Itoa(int(port))), nil
}

// isName reports whether text consists of non-empty labels, separated by dots.
func isName(text string) bool {
	for label := range strings.SplitSeq(text, ".") {
		if label == "" || strings.ContainsFunc(label, func(r rune) bool { return !isHostChar(r) }) {
			return false
		}
	}
	return true
}

// isHostChar reports whether r may be in a label of the name of a host or
// service.
func isHostChar(r rune) bool {
	return 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-' || r == '_'
}

// parseAuthority returns the address in an HTTP request. defaultPort is used if
// it has no port; 0 means that a port is required.
func parseAuthority(text string, defaultPort uint16) (string, error) {
	host, service, err := net.SplitHostPort(text)
	if err != nil && defaultPort != 0 {
		// Without a port. An IPv6 address must be in brackets.
		host, service, err = net.SplitHostPort(text + ":" + strconv.Itoa(int(defaultPort)))
	}
	if err != nil {
		return "", errors.New("write HOST:PORT")
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return "", fmt.Errorf("the port is not a number up to %d", 1<<16-1)
	}
	return normalizeAddress(host, uint16(port))
}
