package migrate

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/client/profile"
	"github.com/knockgw/knockgw/internal/address"
	"github.com/knockgw/knockgw/protocol"
)

// secretPlaceholder replaces the secret in a profile that is printed. No parser
// accepts it as a secret.
const secretPlaceholder = "hex:PUT THE SECRET HERE"

// defaultProfile is the name of the profile if the server's host is not a valid
// name.
const defaultProfile = "libknock"

// convertClient converts the file of a client to a profile.
func (c *conversion) convertClient() {
	m := c.readMode()
	method := ""
	if m.knocks() {
		method = c.readMethod()
	}
	window := c.readWindow(m, method)
	p := &profile.Profile{Server: profile.ServerLibknock, Window: window, Name: defaultProfile}
	s := profile.Service{Name: c.serviceName(0), Mode: m.name, Method: method, Slot: client.DefaultSlot}
	switch method {
	case protocol.MethodTCPSYN:
		s.Slot = window
	case protocol.MethodTCPSYNSeq:
		s.Sequence.Slot = window
	}

	host := c.readServer(&s, method)
	if name := sanitize(host); name != "" && name == host {
		p.Name = name
	}
	var ok bool
	if p.Client, ok = c.text("client.client_id"); !ok {
		c.fail("client.client_id", "is missing; write the client id of the server's configuration")
	}
	cred, ok := c.readSecret("client")
	p.Secret = cred.secret
	if m.authenticates() {
		a := c.readAuth()
		s.Auth = profile.Auth{Protocol: a.protocol, Hint: a.hint, Buckets: a.buckets}
	}
	c.readEncryption()

	p.Services = []profile.Service{s}
	if ok && c.Failures() == 0 {
		c.finishClient(p, cred)
	}
}

// readServer reads the address to dial and the port of knocks, and returns the
// host.
func (c *conversion) readServer(s *profile.Service, method string) string {
	const path, protected = "client.server_addr", "client.protected_tcp_port"
	text, ok := c.text(path)
	if !ok {
		c.fail(path, "is missing; write the address to dial, such as example.com:443")
		return ""
	}
	host, port, err := address.ParseDial(text, 443)
	if err != nil {
		c.fail(path, "%q: %v", text, err)
		return ""
	}
	s.Address = address.Join(host, port)
	if v, ok := c.port(protected); ok && v != port {
		s.Port = v
	}
	if method != "" && !isSYN(method) {
		s.KnockPort = c.readKnockTarget(host, port)
	}
	return host
}

// readKnockTarget returns the UDP port of knocks, which are always sent to the
// address that is dialled.
func (c *conversion) readKnockTarget(host string, port uint16) uint16 {
	const path = "client.udp_server_addr"
	named := c.readUDPPort("knock.udp_knock_port", "knock.udp_port")
	if named != 0 {
		port = named
	}
	text, ok := c.text(path)
	if !ok {
		return port
	}
	at, p, err := address.ParseDial(text, port)
	if err != nil {
		c.fail(path, "%q: %v", text, err)
		return port
	}
	if !strings.EqualFold(at, host) {
		c.warn(path, "knockgw sends knocks to the address that it dials, %s, and not to %s; only the port was converted", host, at)
	}
	return p
}

// finishClient checks the profile with its parser, and sets the result.
func (c *conversion) finishClient(p *profile.Profile, cred credential) {
	text, err := p.Marshal()
	if err == nil {
		_, err = profile.Parse(p.Name+".yaml", text)
	}
	if err != nil {
		c.FailFile(nil, "the result would be rejected: %v", err)
		return
	}
	file := p.Name + ".yaml"
	if c.options.TextOnly {
		text = []byte(strings.ReplaceAll(string(text), p.Secret.Reveal(), fmt.Sprintf("%q", secretPlaceholder)))
		c.note(cred.path, "secrets are not printed: the profile has a placeholder; use --out-dir to write the secret")
	} else {
		c.note(cred.path, "is in the profile now, which only its owner can read; remove it here when you are done")
	}
	c.result.Files = []File{{file, text}}
	c.result.use = c.forwardCommand(p.Name + "/" + p.Services[0].Name)
	c.noteFile("server: libknock means that the server runs libknock. Remove that line when it is a knockgw gateway: each dial is %v faster", libknockKnockDelay)
}

// libknockKnockDelay is the time between a knock and the authentication for a
// libknock server.
const libknockKnockDelay = 50 * time.Millisecond

// forwardCommand returns the command that replaces the client's listener.
func (c *conversion) forwardCommand(target string) string {
	const path = "client.listen"
	text, ok := c.text(path)
	if !ok {
		return "knockgw connect " + target
	}
	command := "knockgw forward " + target + " --listen " + text
	host, _, err := net.SplitHostPort(text)
	if err != nil || strings.ContainsAny(text, " \t\r\n'\"\\$`") {
		c.warn(path, "is not address:port; set the listen address with knockgw forward --listen")
		return "knockgw connect " + target
	}
	if addr, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !addr.IsLoopback()) {
		c.warn(path, "is reachable from other hosts, which could use the service with your key; listen at 127.0.0.1 unless that is intended")
	}
	c.note(path, "became --listen of knockgw forward: a profile has no listen address")
	return command
}
