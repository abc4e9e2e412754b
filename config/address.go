package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/knockgw/knockgw/internal/address"
)

// originalPrefix starts an upstream that keeps the address that the client
// dialled. A port may follow.
const originalPrefix = "original:"

const exampleListenPort = 22 // for error messages

// parseListen parses address:port or prefix:port.
func parseListen(text string) (netip.Prefix, uint16, error) {
	host, port, err := address.Split(text, exampleListenPort)
	if err != nil {
		return netip.Prefix{}, 0, err
	}
	if strings.Contains(host, "/") {
		prefix, err := address.ParsePrefix(host)
		return prefix, port, err
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{}, 0, fmt.Errorf("%q is not an IP address; write the address that clients dial, such as 10.77.0.1:%d", host, port)
	}
	if addr, err = address.Routable(addr); err != nil {
		return netip.Prefix{}, 0, err
	}
	return netip.PrefixFrom(addr, addr.BitLen()), port, nil
}

// parseUpstream parses host:port, original: or original:port. port is an
// example for error messages.
func parseUpstream(text string, port uint16) (Upstream, error) {
	if rest, ok := strings.CutPrefix(text, originalPrefix); ok || text == strings.TrimSuffix(originalPrefix, ":") {
		if rest == "" || !ok {
			return Upstream{Original: true}, nil
		}
		port, err := address.ParsePort(rest)
		if err != nil {
			return Upstream{}, err
		}
		return Upstream{Original: true, Port: port}, nil
	}
	if host, _, err := address.Split(text, port); err == nil && strings.Contains(host, "/") {
		return Upstream{}, errors.New("a prefix cannot be dialled; write \"original:\" to keep the address that the client dialled")
	}
	host, port, err := address.ParseDial(text, port)
	return Upstream{Host: host, Port: port}, err
}
