package migrate

import (
	"net/netip"

	"github.com/knockgw/knockgw/internal/address"
	"github.com/knockgw/knockgw/protocol"
)

// endpoints are the addresses of a server.
type endpoints struct {
	listen   netip.AddrPort
	port     uint16 // in MACs
	upstream string
	upPort   uint16
}

func (c *conversion) readAddresses() (p endpoints) {
	const path = "server.tcp_listen"
	fallback := netip.AddrPortFrom(netip.IPv4Unspecified(), 1) // until the error is reported
	text, given := c.text(path)
	host, port, err := "", c.options.Listen.Port(), error(nil)
	if given {
		host, port, err = address.Split(text, 443)
	}
	switch {
	case !given && port == 0:
		c.fail(path, "is missing; write the port to protect, such as 0.0.0.0:443")
	case err != nil:
		c.fail(path, "%q: %v", text, err)
	}

	p.port, p.listen = port, fallback
	if asked := c.options.Listen; asked.IsValid() {
		p.listen = netip.AddrPortFrom(asked.Addr().Unmap(), port)
		if asked.Port() != 0 {
			p.listen = netip.AddrPortFrom(asked.Addr().Unmap(), asked.Port())
		}
		if why := whyUnroutable(p.listen.Addr()); why != "" {
			c.FailFile(nil, "--listen: %s %s; choose an address that no interface has, such as 10.77.0.1", asked.Addr(), why)
		}
	} else if err == nil && given {
		p.listen = c.listenOf(path, text, host, port)
	}

	if given && p.listen.Port() != p.port {
		c.note(path, "clients dial port %d, and the port in knocks and authentications is still %d (services[].port): "+
			"a libknock client must have protected_tcp_port: %d", p.listen.Port(), p.port, p.port)
	}
	p.upstream, p.upPort = c.readUpstream(p.listen.Addr())
	return p
}

// listenOf returns the address of tcp_listen, if it can be a protected one.
func (c *conversion) listenOf(path, text, host string, port uint16) netip.AddrPort {
	addr, err := netip.ParseAddr(host)
	addr = addr.Unmap()
	why := ""
	if err != nil {
		why = "is not one address"
	} else {
		why = whyUnroutable(addr)
	}
	if why != "" {
		c.fail(path, "%q %s. A protected address is not on any interface of the host: it is routed to knockgw's device. "+
			"Choose one that clients can reach through this host, such as 10.77.0.1, and set --listen 10.77.0.1", text, why)
		return netip.AddrPortFrom(netip.IPv4Unspecified(), 1)
	}
	c.warn(path, "%s became a protected address, which is routed to knockgw's device: remove it from the interface that has it now, "+
		"or choose another with --listen", addr)
	return netip.AddrPortFrom(addr, port)
}

// whyUnroutable returns why an address cannot be routed to a device, or "".
func whyUnroutable(addr netip.Addr) string {
	switch {
	case addr.Zone() != "":
		return "has a zone and cannot be routed"
	case addr.IsUnspecified():
		return "means every address of the host"
	case addr.IsLoopback(), addr.IsMulticast():
		return "cannot be routed to a device"
	}
	return ""
}

// readUpstream reads the upstream of admitted connections, in canonical form.
func (c *conversion) readUpstream(listen netip.Addr) (string, uint16) {
	const path = "server.upstream"
	text, ok := c.text(path)
	if !ok {
		c.fail(path, "is missing; write the address of the service itself, such as 127.0.0.1:22")
		return "", 0
	}
	host, port, err := address.ParseDial(text, 22)
	if err != nil {
		c.fail(path, "%q: %v", text, err)
		return "", 0
	}
	if addr, err := netip.ParseAddr(host); err == nil && addr == listen {
		c.fail(path, "%q is at the protected address, so that connections would lead back into the gateway; "+
			"protect another address with --listen, or give the service another", text)
	}
	return address.Join(host, port), port
}

// readKnockPort returns the UDP port of knocks: that of udp_listen or
// udp_knock_port, or the TCP port.
func (c *conversion) readKnockPort(method string, where endpoints) uint16 {
	const listen, knock, old = "knock.udp_listen", "knock.udp_knock_port", "knock.udp_port"
	named := c.readUDPPort(knock, old)

	if text, ok := c.text(listen); ok {
		host, port, err := address.Split(text, 443)
		if err != nil {
			c.fail(listen, "%q: %v", text, err)
			return where.port
		}
		passive := method == protocol.MethodUDPPassive || method == protocol.MethodUDPPassiveSeq
		if named == 0 || !passive {
			if named != 0 && named != port {
				c.note(listen, "has a different port than udp_knock_port, %d; knocks are received at %d as before", named, port)
			}
			named = port
		}
		if addr, err := netip.ParseAddr(host); err == nil && addr.IsUnspecified() || host == "" {
			c.note(listen, "became knock.udp_port: knocks are read from the packets to the protected address, without a listening socket")
		} else {
			c.warn(listen, "knockgw does not listen at %s: it receives knocks at the protected address itself, so clients must send them there", host)
		}
	}
	if named == 0 {
		return where.port
	}
	return named
}

// readUDPPort reads a port under its current or its former name.
func (c *conversion) readUDPPort(name, former string) uint16 {
	port, ok := c.port(name)
	older, has := c.port(former)
	switch {
	case ok && has && older != port:
		c.fail(former, "%d contradicts %s, %d; remove it", older, name, port)
	case has:
		return older
	}
	return port
}
