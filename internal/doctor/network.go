package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/knockgw/knockgw/internal/bypass"
	"github.com/knockgw/knockgw/internal/routing"
	"github.com/knockgw/knockgw/internal/termsafe"
	"github.com/knockgw/knockgw/packet"
)

// How packets come, go, and come to an upstream.

// restart is what makes routes and rules anew.
const restart = "systemctl restart knockgw # or end it and start it again, where it is no service"

// dialTime bounds a connection to an upstream, and a question for its name.
const dialTime = 3 * time.Second

// enabled reads a setting that is 0 or a number.
func (e *examination) enabled(name string) (int, error) {
	text, err := e.host.Setting(name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}

// outside are the interfaces that packets may come from: up, and neither the
// loopback nor the gateway's own.
func (e *examination) outside() ([]Link, error) {
	links, err := e.host.Links()
	return slices.DeleteFunc(links, func(l Link) bool { return !l.Up || l.Loopback || l.Name == e.Config.TUN.Name }), err
}

func (e *examination) forwarding(context.Context) {
	const check = "forwarding"
	if e.host.Setting == nil {
		e.unchecked(check)
		return
	}
	v4, v6 := e.families()
	if v4 {
		e.forwarding4(check + " IPv4")
	}
	if v6 {
		const setting = "ipv6/conf/all/forwarding"
		on, err := e.enabled(setting)
		switch {
		case errors.Is(err, fs.ErrNotExist): // family6 says what
		case err != nil:
			e.unknown(check+" IPv6", err)
		case on == 0:
			e.bad(Fail, check+" IPv6", "sysctl -w net.ipv6.conf.all.forwarding=1"+e.learning(),
				"off: what comes for the protected addresses is dropped")
		default:
			e.ok(check+" IPv6", "on")
		}
	}
}

// learning are the commands that have interfaces go on learning routes from router
// advertisements, which a host that forwards does not do otherwise.
func (e *examination) learning() string {
	if e.host.Links == nil {
		return ""
	}
	links, err := e.outside()
	if err != nil {
		return ""
	}
	more := ""
	for _, l := range links {
		if on, err := e.enabled("ipv6/conf/" + l.Name + "/accept_ra"); err == nil && on == 1 {
			more += fmt.Sprintf(" && sysctl -w net.ipv6.conf.%s.accept_ra=2", inSysctl(l.Name))
		}
	}
	return more
}

// inSysctl is the name of an interface as sysctl takes it, for a shell.
func inSysctl(name string) string { return termsafe.Shell(strings.ReplaceAll(name, ".", "/")) }

// forwarding4: each interface that packets come from needs it, and ip_forward sets it for all.
func (e *examination) forwarding4(check string) {
	all, err := e.enabled("ipv4/ip_forward")
	if err != nil {
		e.unknown(check, err)
		return
	}
	if all != 0 {
		e.ok(check, "on")
		return
	}
	links, err := e.outside()
	if err != nil {
		e.unknown(check, err)
		return
	}
	var names []string
	for _, l := range links {
		if on, err := e.enabled("ipv4/conf/" + l.Name + "/forwarding"); err == nil && on != 0 {
			names = append(names, l.Name)
		}
	}
	if len(names) == 0 {
		e.bad(Fail, check, "sysctl -w net.ipv4.ip_forward=1 # or net.ipv4.conf.IFACE.forwarding=1, of the interface that clients come from",
			"off: what comes for the protected addresses is dropped")
		return
	}
	e.ok(check, "on for %s", listed(names))
}

func (e *examination) family6(context.Context) {
	const check = "IPv6"
	if _, v6 := e.families(); !v6 || e.host.Setting == nil {
		return
	}
	off, err := e.enabled("ipv6/conf/all/disable_ipv6")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.bad(Fail, check, "boot without ipv6.disable=1, or remove the IPv6 entries of tun", "the kernel has none, and the configuration protects IPv6 addresses")
	case err != nil:
		e.unknown(check, err)
	case off != 0:
		e.bad(Fail, check, "sysctl -w net.ipv6.conf.all.disable_ipv6=0", "disabled, and the configuration protects IPv6 addresses")
	default:
		e.ok(check, "enabled")
	}
}

// sources: a strict look at sources drops clients whose packets come by another
// interface than answers would leave by.
func (e *examination) sources(context.Context) {
	const check, strict = "rp_filter", 1
	if v4, _ := e.families(); !v4 || e.host.Setting == nil {
		return
	}
	links, err := e.outside()
	if err != nil {
		e.unknown(check, err)
		return
	}
	all, err := e.enabled("ipv4/conf/all/rp_filter")
	if err != nil {
		e.unknown(check, err)
		return
	}
	var names, commands []string
	for _, l := range links {
		if own, err := e.enabled("ipv4/conf/" + l.Name + "/rp_filter"); err == nil && max(all, own) == strict {
			names = append(names, l.Name)
			commands = append(commands, fmt.Sprintf("sysctl -w net.ipv4.conf.%s.rp_filter=2", inSysctl(l.Name)))
		}
	}
	if len(names) > 0 && len(links) > 1 {
		e.bad(Warn, check, strings.Join(commands, " && ")+" # where the ways there and back differ",
			"strict on %s: a client is dropped whose answers would leave by another interface", listed(names))
		return
	}
	e.ok(check, "in nobody's way")
}

// routes: what the host has itself it answers for itself, and what is part of a
// neighbouring network nobody sends here.
func (e *examination) routes(context.Context) {
	const check = "routes"
	links, ok := learn(e, check, e.host.Links)
	if !ok {
		return
	}
	good := true
	for _, r := range e.Config.TUN.Routes {
		for _, l := range links {
			for _, a := range l.Addrs {
				switch {
				case r.Contains(a.Addr()) && e.inside(r, l.Name): // the gateway's own subnet
				case r.Contains(a.Addr()):
					good = false
					what := "a gateway that starts refuses to take it from the host; one that runs has it, but for the host itself"
					if e.Prepared { // no rule of knockgw's comes before the host's addresses
						what = "its kernel answers for it"
					}
					e.bad(Fail, check, fmt.Sprintf("ip addr del %s dev %s # or hide ports of it with tun.local instead", a, termsafe.Shell(l.Name)),
						"%s, in %s, is an address of this host: %s", a.Addr(), r, what)
				case a.Overlaps(r) && l.Name != e.Config.TUN.Name && a.Bits() < r.Bits():
					if mend := e.proxy(l.Name, r); mend != "" {
						good = false
						e.bad(Warn, check, mend, "%s is part of the network of %s (%s), whose hosts ask who has its addresses, and nobody answers", r, l.Name, a.Masked())
					}
				}
			}
		}
		if e.Prepared && e.host.Route != nil {
			if device, err := e.host.Route(r.Addr()); err != nil || device != e.Config.TUN.Name {
				good = false
				e.bad(Fail, check, fmt.Sprintf("ip route add %s dev %s metric 64", r, termsafe.Shell(e.Config.TUN.Name)), "%s does not lead to the prepared %s", r, e.Config.TUN.Name)
			}
		}
	}
	if e.running && !e.Prepared && e.host.Missing != nil {
		missing, _, err := e.host.Missing()
		switch {
		case err != nil:
			e.unknown(check, err)
		case len(missing) > 0:
			good = false
			e.bad(Fail, check, restart, "the gateway runs, and somebody has removed: %s", strings.Join(missing, "; "))
		}
	}
	if good && len(e.Config.TUN.Routes) > 0 {
		e.ok(check, "nothing here is in the way of %d prefixes; that neighbours route them here cannot be seen from here", len(e.Config.TUN.Routes))
	}
}

// inside reports whether hosts of a prefix are behind an interface.
func (e *examination) inside(r netip.Prefix, link string) bool {
	return slices.ContainsFunc(bypass.ProtectedBy(e.Config).Routes.UpstreamLinks, func(in routing.UpstreamLink) bool { return in.Prefix == r && in.Device == link })
}

// isInside is inside for the prefix of an address.
func (e *examination) isInside(a netip.Addr, link string) bool {
	return slices.ContainsFunc(e.Config.TUN.Routes, func(r netip.Prefix) bool { return r.Contains(a) && e.inside(r, link) })
}

// bypass: all rules, routes and addresses that take packets from outside past the
// gateway. Settings have checks of their own.
func (e *examination) bypass(context.Context) {
	const check = "bypass"
	if e.Prepared && !e.running {
		return // its routes may be added later
	}
	found, ok := learn(e, check, func() func() ([]bypass.Problem, error) {
		if e.host.Bypass == nil {
			return nil
		}
		return func() ([]bypass.Problem, error) { return e.host.Bypass(e.running) }
	}())
	if !ok {
		return
	}
	good := true
	for _, p := range found {
		if strings.HasPrefix(p.Message, "forwarding is off (") {
			continue
		}
		good = false
		level := Fail
		if p.Severity == bypass.Unknown {
			level = Warn
		}
		e.bad(level, check, p.Remedy, "%s: %s", p.Subject, p.Message)
	}
	if good {
		e.ok(check, "no rule, route or address of this host takes packets past the gateway; what other hosts do cannot be seen from here")
	}
}

// local: ports of the host itself.
func (e *examination) local(context.Context) {
	const check = "host's own ports"
	if len(e.Config.TUN.Local) == 0 || e.host.Links == nil {
		return
	}
	links, err := e.host.Links()
	if err != nil {
		e.unknown(check, err)
		return
	}
	good := true
	bad := func(mend, found string, args ...any) {
		good = false
		e.bad(Fail, check, mend, found, args...)
	}
	for _, p := range e.Config.TUN.Local {
		has := func(a netip.Prefix) bool { return a.Addr() == p.Addr() }
		if !slices.ContainsFunc(links, func(l Link) bool { return slices.ContainsFunc(l.Addrs, has) }) {
			bad("correct tun.local, or ip addr add "+p.Addr().String()+" dev IFACE", "%s is no address of this host", p.Addr())
			continue
		}
		if !e.running && e.host.Bind != nil {
			for _, udp := range []bool{false, true} {
				if err := e.host.Bind(p, udp); err != nil && !errors.Is(err, fs.ErrPermission) {
					bad(fmt.Sprintf("have it listen at 127.0.0.1:%d (sshd: ListenAddress 127.0.0.1), and make that the upstream", p.Port()),
						"somebody listens at %s: %v", p, err)
				}
			}
		}
	}
	if good && e.host.Absent != nil {
		absent, err := e.host.Absent()
		if err != nil {
			e.unknown(check, err)
		}
		for _, why := range absent {
			good = false
			e.bad(Warn, check, "ip addr # wait until it has gone, or correct tun.local", "%s; until then its ports are silent, for clients too", why)
		}
	}
	if e.running && e.host.Missing != nil {
		_, missing, err := e.host.Missing()
		switch {
		case err != nil:
			e.unknown(check, err)
		case len(missing) > 0:
			bad(restart, "the gateway runs, and somebody has removed: %s", strings.Join(missing, "; "))
		}
	}
	if good {
		e.ok(check, "%d can be hidden", len(e.Config.TUN.Local))
	}
}

func (e *examination) mtu(context.Context) {
	const check = "MTU"
	if e.host.Links == nil {
		e.unchecked(check)
		return
	}
	links, err := e.outside()
	if err != nil {
		e.unknown(check, err)
		return
	}
	for _, l := range links {
		if l.MTU > e.Config.TUN.MTU {
			e.bad(Warn, check, fmt.Sprintf("write tun: {mtu: %d}", min(l.MTU, packet.MaxPacket)),
				"that of %s is %d, and tun.mtu %d: strangers' larger packets are answered by the kernel (Packet Too Big)", l.Name, l.MTU, e.Config.TUN.MTU)
			return
		}
	}
	e.ok(check, "no link's is larger than tun.mtu, %d", e.Config.TUN.MTU)
}

func (e *examination) upstreams(ctx context.Context) {
	for i := range e.Config.Services {
		s := &e.Config.Services[i]
		if s.Upstream.Host == "" {
			continue // the dialled address, or the embedding program
		}
		e.upstream(ctx, "upstream of "+s.Name, s.Upstream.Host, s.Upstream.Port, s.UpstreamDevice)
	}
}

func (e *examination) upstream(ctx context.Context, check, host string, port uint16, device string) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	addrs := []netip.Addr{}
	if a, err := netip.ParseAddr(host); err == nil {
		addrs = append(addrs, a)
	} else if addrs, err = e.host.Resolve(ctx, host); err != nil || len(addrs) == 0 {
		e.bad(Fail, check, "correct services[].upstream, or the resolver: getent hosts "+termsafe.Shell(host), "%s does not resolve: %v", host, err)
		return
	}
	for _, a := range addrs {
		a = a.Unmap()
		routed := slices.ContainsFunc(e.Config.TUN.Routes, func(r netip.Prefix) bool { return r.Contains(a) })
		hidden := slices.Contains(e.Config.TUN.Local, netip.AddrPortFrom(a, port))
		leads := ""
		if e.host.Route != nil {
			leads, _ = e.host.Route(a)
		}
		if device == "" && (routed || hidden || leads != "" && leads == e.Config.TUN.Name) {
			e.bad(Fail, check, fmt.Sprintf("ip route add %s via GATEWAY dev IFACE, or choose another upstream", netip.PrefixFrom(a, a.BitLen())),
				"%s leads back into %s, as a stranger's packets", a, e.Config.TUN.Name)
			return
		}
	}
	address := netip.AddrPortFrom(addrs[0].Unmap(), port).String()
	if e.SkipUpstreams || device != "" {
		e.ok(check, "%s; not dialled", address)
		return
	}
	if err := e.host.Dial(ctx, address); err != nil {
		e.bad(Warn, check, "start the service, or correct services[].upstream", "%s does not answer: %v", address, err)
		return
	}
	e.ok(check, "%s answers", address)
}
