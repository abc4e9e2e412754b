package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"github.com/knockgw/knockgw/internal/termsafe"
)

// Whether what comes from outside comes to the gateway: what other rules and
// interfaces make of it, and whether its neighbours send it here at all.

// proxy is what has the interface answer its neighbours for the services' addresses in
// a prefix; "" where it does.
func (e *examination) proxy(link string, r netip.Prefix) string {
	if r.Addr().Is4() && e.host.Setting != nil {
		for _, where := range []string{"all", link} {
			if on, err := e.enabled("ipv4/conf/" + where + "/proxy_arp"); err == nil && on != 0 {
				return ""
			}
		}
	}
	var have []netip.Addr
	if e.host.Proxied != nil {
		have, _ = e.host.Proxied(link) // without an answer there are none
	}
	var commands []string
	if r.Addr().Is6() && e.host.Setting != nil {
		if on, err := e.enabled("ipv6/conf/" + link + "/proxy_ndp"); err != nil || on == 0 {
			commands = append(commands, "sysctl -w net.ipv6.conf."+inSysctl(link)+".proxy_ndp=1")
		}
	}
	for i := range e.Config.Services {
		a := e.Config.Services[i].Listen.Addr()
		command := fmt.Sprintf("ip neigh add proxy %s dev %s", a, termsafe.Shell(link))
		if r.Contains(a) && !slices.Contains(have, a) && !slices.Contains(commands, command) {
			commands = append(commands, command)
		}
	}
	return strings.Join(commands, " && ")
}

// arrivals asks the kernel where packets would go that come by each interface.
func (e *examination) arrivals(context.Context) {
	const check = "way to the device"
	if !e.running || e.host.Arrives == nil {
		return // before there is a device no way leads there
	}
	links, err := e.outside()
	if err != nil {
		e.unknown(check, err)
		return
	}
	var to []Arrival
	for i := range e.Config.Services {
		s := &e.Config.Services[i]
		to = append(to, Arrival{To: s.Listen.Addr(), Port: s.Port})
	}
	good, asked := true, 0
	for _, l := range links {
		for _, a := range to {
			from, ok := neighbour(l, a.To, links)
			if !ok || e.isInside(a.To, l.Name) {
				continue
			}
			a.Link, a.From = l.Name, from
			device, err := e.host.Arrives(a)
			if err != nil {
				continue // that interface takes no packets from there, or does not forward: other checks say so
			}
			if asked++; device == e.Config.TUN.Name {
				continue
			}
			if device == "" {
				device = "nowhere"
			}
			good = false
			e.bad(Fail, check, fmt.Sprintf("ip rule; ip route get %s from %s iif %s ipproto tcp dport %d # find the rule or route that comes before knockgw's, and remove it", a.To, from, termsafe.Shell(l.Name), a.Port),
				"what comes by %s for %s goes to %s, not to %s", l.Name, netip.AddrPortFrom(a.To, a.Port), device, e.Config.TUN.Name)
			break // one for an interface will do
		}
	}
	if good && asked > 0 {
		e.ok(check, "what comes from outside for the services goes to %s", e.Config.TUN.Name)
	}
}

// neighbour is an address from which packets may come by a link: the one after its own.
// It is none of the host's.
func neighbour(l Link, to netip.Addr, links []Link) (netip.Addr, bool) {
	own := func(a netip.Addr) bool {
		return slices.ContainsFunc(links, func(l Link) bool {
			return slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Addr() == a })
		})
	}
	for _, p := range l.Addrs {
		if p.Addr().Is4() != to.Is4() || p.Addr().IsLinkLocalUnicast() {
			continue
		}
		for _, a := range []netip.Addr{p.Addr().Next(), p.Addr().Prev()} {
			if a != to && !own(a) && p.Contains(a) && a != p.Masked().Addr() {
				return a, true
			}
		}
	}
	return netip.Addr{}, false
}

// clears warns of a network manager that removes what it has not made.
func (e *examination) clears(context.Context) {
	const check = "network manager"
	if e.host.Clears == nil || e.Prepared {
		return
	}
	who, err := e.host.Clears()
	switch {
	case err != nil:
		e.unknown(check, err)
	case who != "":
		e.bad(Warn, check, `mkdir -p /etc/systemd/networkd.conf.d && printf '[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\n' >/etc/systemd/networkd.conf.d/knockgw.conf && systemctl restart systemd-networkd`,
			"%s removes the routes and rules of others when it restarts, knockgw's among them", who)
	default:
		e.ok(check, "none that is known removes the routes and rules of others")
	}
}

// metrics: their listener is opened after the privileges are gone.
func (e *examination) metrics(context.Context) {
	const check = "metrics.listen"
	at := e.Config.Metrics.Listen
	if !at.IsValid() || e.host.Bind == nil {
		return
	}
	if first, err := e.firstFree(); err == nil && int(at.Port()) < first {
		e.bad(Fail, check, fmt.Sprintf("write metrics: {listen: \"%s\"}", netip.AddrPortFrom(at.Addr(), defaultMetricsPort)),
			"%s is a port below %d, which takes a privilege that is gone by then", at, first)
		return
	}
	if e.running {
		return // it has it
	}
	switch err := e.host.Bind(at, false); {
	case err == nil:
		e.ok(check, "%s is free", at)
	case errors.Is(err, fs.ErrPermission):
		e.unknown(check, err)
	default:
		e.bad(Fail, check, fmt.Sprintf("ss -ltnp 'sport = :%d' # who has it: end that, or write another metrics: {listen: ...}", at.Port()),
			"%s cannot be listened at: %v", at, err)
	}
}

// defaultMetricsPort is one that needs no privilege.
const defaultMetricsPort = 9090

// firstFree is the first port that takes no privilege.
func (e *examination) firstFree() (int, error) {
	if e.host.Setting == nil {
		return firstFreePort, nil
	}
	first, err := e.enabled("ipv4/ip_unprivileged_port_start")
	if errors.Is(err, fs.ErrNotExist) {
		return firstFreePort, nil
	}
	return first, err
}

// prepared looks at an interface that somebody else has made.
func (e *examination) prepared(context.Context) {
	const check = "prepared device"
	name := e.Config.TUN.Name
	if !e.Prepared || e.host.Interface == nil {
		return
	}
	if len(e.Config.TUN.Local) > 0 {
		e.bad(Fail, check, "take tun.local out, or start without --prepared", "a prepared device hides no ports of the host (tun.local)")
	}
	quoted := termsafe.Shell(name)
	create := fmt.Sprintf("ip tuntap add dev %s mode tun user %s && ip link set %[1]s mtu %[3]d up", quoted, termsafe.Shell(e.Account.Name), e.Config.TUN.MTU)
	p, err := e.host.Interface(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.bad(Fail, check, create, "there is no interface %s", name)
	case err != nil:
		e.unknown(check, err)
	case !p.TUN:
		e.bad(Fail, check, fmt.Sprintf("ip link del %s && %s", quoted, create), "%s is no TUN interface, or one of another kind", name)
	case p.Owner != e.Account.UID:
		e.bad(Fail, check, fmt.Sprintf("ip tuntap del dev %s mode tun && %s # and its routes: docs/install.md", quoted, create), "%s is not %s's (owner %d)", name, e.Account.Name, p.Owner)
	case !p.Up:
		e.bad(Fail, check, "ip link set "+quoted+" up", "%s is down", name)
	default:
		e.ok(check, "%s is there for %s", name, e.Account.Name)
	}
}

// account: without one, there is nobody for root to become.
func (e *examination) account(context.Context) {
	const check = "account"
	switch {
	case e.NoAccount != "":
		e.bad(Fail, check, "useradd --system --user-group --shell /usr/sbin/nologin "+termsafe.Shell(e.NoAccount), "there is no account %s, which knockgw run becomes when root starts it", e.NoAccount)
	case e.Account.UID == 0:
		e.ok(check, "%s", "root")
	default:
		e.ok(check, "%s, %d", e.Account.Name, e.Account.UID)
	}
}
