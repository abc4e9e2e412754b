package config

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/knockgw/knockgw/internal/privatefile"
	"github.com/knockgw/knockgw/internal/strictyaml"
)

// check checks constraints between sections.
func (p *parser) check() {
	p.checkRoutes()
	p.checkLocal()
	p.checkClients()
	p.checkServices()
	p.checkMethods()
	p.checkOverlaps()
	if l := p.c.Metrics.Listen; l.IsValid() {
		if _, covered := p.routeOf(l.Addr()); covered {
			p.metrics.FailKey("listen", "%s is in tun.routes, so that no interface has it; "+
				"choose an address of this host", l)
		}
	}
}

func (p *parser) checkRoutes() {
	v6 := false
	for i, route := range p.c.TUN.Routes {
		v6 = v6 || route.Addr().Is6()
		if j := slices.Index(p.c.TUN.Routes, route); j < i {
			p.Fail(p.routes[i].Node, p.routes[i].Path, "%s is already given in line %d; remove one of them",
				route, p.routes[j].Node.Line)
		}
	}
	if v6 && p.c.TUN.MTU < minMTUv6 {
		p.tun.FailKey("mtu", "%d is too small for the IPv6 routes; write %d or more", p.c.TUN.MTU, minMTUv6)
	}
}

// routeOf returns the route that directs an address to the device.
func (p *parser) routeOf(addr netip.Addr) (netip.Prefix, bool) {
	for _, route := range p.c.TUN.Routes {
		if route.Contains(addr) {
			return route, true
		}
	}
	return netip.Prefix{}, false
}

func (p *parser) checkClients() {
	first := map[string]int{} // by id
	p.c.positions = map[string]Position{}
	names, known := make([]string, len(p.c.Services)), make(map[string]bool, len(p.c.Services))
	for i, svc := range p.c.Services {
		names[i], known[svc.Name] = svc.Name, true
	}
	p.checkSecrets()

	for i, c := range p.c.Clients {
		s := p.clients[i]
		if c.ID == "" {
			continue
		}
		if j, taken := first[c.ID]; taken {
			other := p.clients[j]
			s.FailKey("id", "%q is already the client of %s; give each client its own id",
				c.ID, s.Place(other.Report, other.At("id")))
			continue
		}
		first[c.ID] = i
		p.c.positions[c.ID] = Position{File: s.File(), Line: s.Node.Line}
		if limit := p.c.Limits.Flows; c.MaxFlows > limit {
			s.Warn(s.At("max_flows"), s.Key("max_flows"), "has no effect: limits.flows, the total, is %d", limit)
		}
		for j, name := range c.Services {
			it := s.grants[j]
			if known[name] {
				continue
			}
			if near := strictyaml.Nearest(name, names); near != "" {
				s.Fail(it.Node, it.Path, "there is no service %q; did you mean %s?", name, near)
			} else {
				s.Fail(it.Node, it.Path, "there is no service %q; name one of services, or add it there", name)
			}
		}
	}
}

// checkSecrets checks for shared secrets: a client that has the secret of
// another one can impersonate it.
func (p *parser) checkSecrets() {
	type owner struct{ client, secret int }
	owners := map[string]owner{}
	for i := range p.c.Clients {
		for j, sec := range p.c.Clients[i].Secrets {
			it := p.clients[i].secrets[j]
			first, taken := owners[string(sec.Secret)]
			if !taken {
				owners[string(sec.Secret)] = owner{i, j}
				continue
			}
			s, other := p.clients[i], p.clients[first.client]
			place := s.Place(other.Report, other.secrets[first.secret].Node)
			if first.client == i {
				s.Fail(it.Node, it.Path, "is the same secret as in %s; remove one of them, or make a new one with knockgw keygen", place)
			} else {
				s.Warn(it.Node, it.Path, "is also the secret of client %q (%s), so that either can impersonate the other; "+
					"make a new one with knockgw keygen", p.c.Clients[first.client].ID, place)
			}
		}
	}
}

func (p *parser) checkServices() {
	lines := map[string]int{}
	p.access = p.c.serviceClients()
	for i := range p.c.Services {
		svc, s := &p.c.Services[i], p.services[i]
		if line := lines[svc.Name]; line != 0 && svc.Name != "" {
			s.FailKey("name", "%q is already the service of line %d; give each service its own name", svc.Name, line)
		} else {
			lines[svc.Name] = s.At("name").Line
		}
		p.checkCovered(s, svc)
		p.checkLoop(s, svc)
		p.checkSequence(s, svc)
		p.checkTrials(s, svc)
	}
}

// checkCovered checks that the service's packets are routed to the device.
func (p *parser) checkCovered(s serviceSource, svc *Service) {
	if !svc.Listen.IsValid() || p.routesBroken {
		return
	}
	for _, route := range p.c.TUN.Routes {
		if route.Bits() <= svc.Listen.Bits() && route.Contains(svc.Listen.Addr()) {
			return
		}
	}
	if p.c.TUN.Hides(svc) {
		return
	}
	s.FailKey("listen", "%s is not in a route of tun.routes, so nothing would arrive; add %s there, "+
		"or, if it is an address of this host, add the address and port to tun.local", addressOrPrefix(svc.Listen), svc.Listen)
}

// checkLoop checks that the upstream is not routed to the device, which would
// drop the connection as unauthorized. Binding the socket to another interface
// avoids that.
func (p *parser) checkLoop(s serviceSource, svc *Service) {
	if svc.UpstreamDevice != "" || svc.Upstream.IsZero() {
		return
	}
	if svc.Upstream.Original {
		if svc.Listen.IsValid() {
			s.FailKey("upstream", "%q keeps addresses that are routed to the device, so flows would lead back into it; "+
				"name the interface that leads to the upstream, as upstream_device: eth1 (Linux)", svc.Upstream)
		}
		return
	}
	addr, err := netip.ParseAddr(svc.Upstream.Host)
	if err != nil {
		return // a name: doctor and each dial check its addresses
	}

	if slices.Contains(p.c.TUN.Local, netip.AddrPortFrom(addr.Unmap(), svc.Upstream.Port)) {
		s.FailKey("upstream", "%s is hidden by tun.local, so flows would lead back into the device; "+
			"have the service listen at 127.0.0.1:%d, and make that the upstream", svc.Upstream, svc.Upstream.Port)
		return
	}
	if route, covered := p.routeOf(addr); covered {
		s.FailKey("upstream", "%s is in the route %s, so flows would lead back into the device; "+
			"choose another address for listen and tun.routes, or write upstream_device: eth1 (Linux)", svc.Upstream, route)
	}
}

func (p *parser) checkSequence(s serviceSource, svc *Service) {
	length := p.c.Knock.Sequence.Length
	if length <= maxSYNSequence || !slices.Contains(svc.Knock, MethodTCPSYNSeq) {
		return
	}
	if s.Has("knock") {
		s.FailKey("knock", "tcp-syn-seq supports sequences of at most %d parts, and knock.sequence.length is %d; "+
			"lower that, or remove tcp-syn-seq here", maxSYNSequence, length)
		return
	}
	p.sequence.FailKey("length", "%d is too long for tcp-syn-seq, which %s accepts; write at most %d, "+
		"or name the service's other methods in knock", length, svc.Name, maxSYNSequence)
}

// checkMethods warns of keys of methods that no service accepts, and of a slot
// that is too short for the window.
func (p *parser) checkMethods() {
	accepts := func(m Method) bool {
		return slices.ContainsFunc(p.c.Services, func(svc Service) bool { return slices.Contains(svc.Knock, m) })
	}
	for _, k := range []struct {
		section *strictyaml.Section
		key     string
		method  Method
	}{
		{p.knock, "gateway", MethodUDPv2},
		{p.knock, "slot", MethodUDPv2},
		{p.sequence, "legacy", MethodTCPSYNSeq},
	} {
		if k.section.Has(k.key) && !accepts(k.method) {
			k.section.Warn(k.section.At(k.key), k.section.Key(k.key), "has no effect: no service accepts %s", k.method)
		}
	}
	p.warnTrials()

	// Only the current slot, the previous one and the next one are checked.
	if k := &p.c.Knock; k.Slot < k.Window && accepts(MethodUDPv2) {
		key := "slot"
		if !p.knock.Has(key) {
			key = "window"
		}
		whole := (k.Window + minWindow - 1).Truncate(minWindow)
		p.knock.Warn(p.knock.At(key), p.knock.Key(key), "udp-v2 knocks of clocks that differ by more than knock.slot, %v, may be refused, "+
			"though knock.window is %v; write slot: %v", k.Slot, k.Window, whole)
	}
}

// maxTrialClients is the number of clients above which a low rate of bogus udp
// and udp-seq knocks can lock out clients whose address has not knocked
// recently, since each datagram is tried with each client.
const maxTrialClients = 100

// warnTrials warns, once in total, of services that accept such knocks and have
// many clients.
func (p *parser) warnTrials() {
	first, maxClients, others := -1, 0, 0
	for i := range p.c.Services {
		svc := &p.c.Services[i]
		clients := p.access.count(svc.Name)
		if clients <= maxTrialClients || !slices.Contains(svc.Knock, MethodUDP) && !slices.Contains(svc.Knock, MethodUDPSeq) {
			continue
		}
		if first < 0 {
			first = i
		} else {
			others++
		}
		maxClients = max(maxClients, clients)
	}
	if first < 0 {
		return
	}

	and := ""
	if others > 0 {
		and = fmt.Sprintf(" (and %d other services)", others)
	}
	s := p.services[first]
	s.Warn(s.At("knock"), s.Key("knock"), "%s%s accepts knocks of the methods udp and udp-seq, which are tried with each client in turn: "+
		"with %d clients, a low rate of bogus knocks locks out clients that have not knocked recently; use udp-v2 on the clients "+
		"(the default of client add) and write knock: [udp-v2], or the other methods that the clients use", p.c.Services[first].Name, and, maxClients)
}

// checkTrials limits the trial decryptions: without hints, an unauthorized
// connection costs one for each client and bucket.
func (p *parser) checkTrials(s serviceSource, svc *Service) {
	if !svc.Mode.Authenticates() || !svc.Auth.Accepts(AuthV2) || svc.Auth.Hint != HintNone {
		return
	}
	clients := p.access.count(svc.Name)
	if trials := clients * len(svc.Auth.Buckets); trials > maxTrials {
		s.auth.FailKey("hint", "%d clients in %d buckets would be %d trial decryptions for an unauthorized connection, and the limit is %d; "+
			"name fewer buckets, or write hint: route-hint", clients, len(svc.Auth.Buckets), trials, maxTrials)
	}
}

// checkOverlaps compares the services of each port, sorted by prefix. A prefix
// that contains others is sorted immediately before them, so that thousands of
// services take no noticeable time.
func (p *parser) checkOverlaps() {
	order := make([]int, 0, len(p.c.Services))
	for i := range p.c.Services {
		if p.c.Services[i].Listen.IsValid() {
			order = append(order, i)
		}
	}
	slices.SortFunc(order, func(a, b int) int {
		x, y := &p.c.Services[a], &p.c.Services[b]
		return cmp.Or(cmp.Compare(x.Port, y.Port), x.Listen.Addr().Compare(y.Listen.Addr()),
			cmp.Compare(x.Listen.Bits(), y.Listen.Bits()), cmp.Compare(a, b))
	})
	widest := -1 // the widest prefix that may overlap with the next one
	for _, i := range order {
		svc := &p.c.Services[i]
		if widest >= 0 {
			if other := &p.c.Services[widest]; other.Port == svc.Port && other.Listen.Overlaps(svc.Listen) {
				p.failOverlap(i, widest)
				continue
			}
		}
		widest = i
	}
}

// failOverlap reports an overlap at the later of two services.
func (p *parser) failOverlap(i, j int) {
	i, j = max(i, j), min(i, j)
	a, b := &p.c.Services[i], &p.c.Services[j]
	p.services[i].FailKey("listen", "%s:%d overlaps with service %s (%s, line %d); change the address or the port of one",
		addressOrPrefix(a.Listen), a.Port, b.Name, addressOrPrefix(b.Listen), p.services[j].At("listen").Line)
}

// warnInsecureFile warns of secrets in a file that other accounts can read.
func (c *Config) warnInsecureFile(f *os.File) {
	open := (*privatefile.AccessError)(nil)
	if !c.inlineSecrets || !errors.As(privatefile.CheckAccess(f), &open) {
		return
	}
	e := Error{File: f.Name(), Msg: "contains secrets and " + open.Remedy() + ", or use secret_file"}
	c.Warnings = append(c.Warnings, e.Error())
}

// addressOrPrefix formats a prefix, without its length if it is a single
// address.
func addressOrPrefix(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}
