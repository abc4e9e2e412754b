package proxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// maxHostLen is the longest name of a host, in bytes: what SOCKS5's length byte and DNS take.
const maxHostLen = 255

// errHost says that something is no name of a host. What it was is not repeated: it came from outside.
var errHost = errors.New("the host is neither a name nor an IP address")

// normalizeAddress is host:port the way Dial gets it: names in lower case and without the
// dot of the root domain, IP addresses in their one canonical spelling, with which
// a service's address can be compared. A name has no empty label, so that what
// address returns stays the same when it is given that.
func normalizeAddress(host string, port uint16) (string, error) {
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	// With the dot it may be an address too, as in "192.0.2.1.".
	for _, spelling := range []string{host, name} {
		if ip, err := netip.ParseAddr(spelling); err == nil {
			return netip.AddrPortFrom(ip.Unmap(), port).String(), nil
		}
	}
	if len(name) > maxHostLen || !isName(name) {
		return "", errHost
	}
	if port == 0 {
		return "", errors.New("there is no port 0")
	}
	return net.JoinHostPort(name, strconv.Itoa(int(port))), nil
}

// isName reports whether text is labels, none of them empty, with dots between.
func isName(text string) bool {
	for label := range strings.SplitSeq(text, ".") {
		if label == "" || strings.ContainsFunc(label, func(r rune) bool { return !isHostChar(r) }) {
			return false
		}
	}
	return true
}

// isHostChar reports whether r may be in a label of the names of hosts and services.
func isHostChar(r rune) bool {
	return 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-' || r == '_'
}

// parseAuthority is the address that an HTTP request names. implied is the port if it names none; 0 if it must.
func parseAuthority(text string, implied uint16) (string, error) {
	host, service, err := net.SplitHostPort(text)
	if err != nil && implied != 0 {
		// Without a port; in brackets an IPv6 address, but not both.
		host, service, err = net.SplitHostPort(text + ":" + strconv.Itoa(int(implied)))
	}
	if err != nil {
		return "", errors.New("write HOST:PORT")
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return "", fmt.Errorf("the port is no number up to %d", 1<<16-1)
	}
	return normalizeAddress(host, uint16(port))
}
