package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/termsafe"
)

// checkFirewall looks for rules of the host's packet filter that drop, answer or
// rewrite packets for the gateway.
func checkFirewall(_ context.Context, c *checker) {
	w, ok := query(c, c.host.Firewall)
	if !ok {
		return
	}
	before := len(c.findings)
	for _, table := range w.Legacy {
		c.report(Warn, "iptables-legacy-save -t "+termsafe.Shell(table)+" # and ip6tables-legacy-save; to accept: iptables-legacy -I FORWARD -o "+termsafe.Shell(c.Config.TUN.Name)+" -j ACCEPT, and with -i",
			"there is a table %s of iptables-legacy, whose rules are not read here: check whether one rejects packets for the protected addresses", table)
	}

	for i := range w.Chains {
		chain := &w.Chains[i]
		if !appliesTo(c, chain) {
			continue
		}
		switch chain.Hook {
		case "forward":
			checkDrops(c, w, chain)
		case "prerouting":
			checkDrops(c, w, chain)
			checkDNAT(c, w, chain)
		case "postrouting":
			checkMasquerade(c, w, chain)
		}
	}

	if usage := conntrackFull(c); usage != "" {
		c.report(Warn, "sysctl -w net.netfilter.nf_conntrack_max=1048576", "%s: the kernel drops packets that it cannot track", usage)
	}
	if len(c.findings) == before {
		c.ok("no rule of this host blocks the gateway; firewalls of other hosts cannot be checked from here")
	}
}

// appliesTo reports whether a chain sees packets of a protected family.
func appliesTo(c *checker, chain *Chain) bool {
	v4, v6 := c.protectedFamilies()
	return v4 && chain.Family != "ip6" || v6 && chain.Family != "ip"
}

// checkDrops looks for rules that drop or reject packets for the device.
func checkDrops(c *checker, w *Firewall, chain *Chain) {
	accepted, rejects, drops := false, false, false
	w.walk(chain, func(r *Rule) bool {
		switch {
		case accepts(c.Config, r):
			accepted = true
			return false
		case irrelevant(c.Config, r):
		case r.Verdict == "reject":
			rejects = true
		case r.Verdict == "drop" && !r.Narrowed && !r.Source:
			drops = true
		}
		return true
	})
	if rejects {
		c.report(Warn, acceptFix(c.Config, chain), "a rule of the chain %s rejects: unauthorized hosts that match it are answered, which reveals the host", chain)
	}
	if drops || chain.Drops && !accepted {
		c.report(Warn, acceptFix(c.Config, chain), "the chain %s drops what no rule accepts, and no rule accepts all packets to %s", chain, c.Config.TUN.Name)
	}
}

// checkDNAT looks for a rule that changes the destination of packets for the
// gateway.
func checkDNAT(c *checker, w *Firewall, chain *Chain) {
	w.walk(chain, func(r *Rule) bool {
		if r.Verdict != "dnat" || irrelevant(c.Config, r) {
			return true
		}
		c.report(Warn, acceptFix(c.Config, chain)+" # and take the rule out, or have it match other addresses",
			"a rule of the chain %s changes the destination of packets, possibly of those for the protected addresses", chain)
		return false
	})
}

// checkMasquerade looks for a rule that gives all clients the same source
// address.
func checkMasquerade(c *checker, w *Firewall, chain *Chain) {
	w.walk(chain, func(r *Rule) bool {
		if accepts(c.Config, r) && r.Out != "" {
			return false
		}
		if r.Verdict != "masquerade" || r.Source || irrelevant(c.Config, r) {
			return true
		}
		c.report(Warn, acceptFix(c.Config, chain), "a rule of the chain %s changes the source of packets, including those to %s: "+
			"all clients would have the same address, and a knock of one would admit all", chain, c.Config.TUN.Name)
		return false
	})
}

// accepts reports whether a rule accepts all packets to the device.
func accepts(cfg *config.Config, r *Rule) bool {
	return r.Verdict == "accept" && !r.Negated && !r.Source && !r.Narrowed && r.In == "" && r.Port == 0 && !r.Dest.IsValid() &&
		(r.Out == "" || r.Out == cfg.TUN.Name)
}

// irrelevant reports whether a rule matches only interfaces, addresses or ports
// that are not the gateway's.
func irrelevant(cfg *config.Config, r *Rule) bool {
	t := &cfg.TUN
	switch {
	case r.Out != "" && (r.Out == t.Name) == r.Negated, r.In == t.Name && !r.Negated, r.In == "lo" && !r.Negated:
		return true
	case r.Dest.IsValid():
		return !slices.ContainsFunc(t.Routes, func(p netip.Prefix) bool { return p.Contains(r.Dest) }) &&
			!slices.ContainsFunc(t.Local, func(p netip.AddrPort) bool { return p.Addr() == r.Dest })
	case r.Port != 0:
		return r.Port != cfg.Knock.UDPPort &&
			!slices.ContainsFunc(cfg.Services, func(s config.Service) bool { return s.Port == r.Port })
	default:
		return false
	}
}

// acceptFix returns the command that makes a chain accept packets to and from
// the device.
func acceptFix(cfg *config.Config, chain *Chain) string {
	name := cfg.TUN.Name
	if !isIdentifier(chain.Table) || !isIdentifier(chain.Name) || !isIdentifier(name) { // nft would parse it as more than a name
		return "nft -a list ruleset # and have the chain accept what goes to the device, and comes from it"
	}
	switch {
	case chain.Name == strings.ToUpper(chain.Name): // created by iptables
		return iptablesFix(chain, name)
	case chain.Table == "firewalld" && chain.Hook == "forward": // which owns its rules
		return fmt.Sprintf("firewall-cmd --permanent --zone=trusted --add-interface=%s && firewall-cmd --permanent --new-policy=knockgw"+
			" && firewall-cmd --permanent --policy=knockgw --add-ingress-zone=ANY && firewall-cmd --permanent --policy=knockgw --add-egress-zone=trusted"+
			" && firewall-cmd --permanent --policy=knockgw --set-target=ACCEPT && firewall-cmd --reload", name)
	case chain.Hook == "prerouting": // the outgoing interface is not known there
		return "nft -a list chain " + chain.String()
	case chain.Hook == "postrouting":
		return fmt.Sprintf("nft insert rule %s oifname %s accept", chain, name)
	default:
		return fmt.Sprintf("nft insert rule %s oifname %s accept && nft insert rule %[1]s iifname %[2]s accept", chain, name)
	}
}

// iptablesFix is acceptFix for a chain of iptables.
func iptablesFix(chain *Chain, device string) string {
	program := "iptables"
	if chain.Family == "ip6" {
		program = "ip6tables"
	}
	if chain.Hook != "forward" && chain.Hook != "postrouting" {
		return fmt.Sprintf("%s -t %s -S %s", program, chain.Table, chain.Name)
	}
	out := fmt.Sprintf("%s -t %s -I %s -o %s -j ACCEPT", program, chain.Table, chain.Name, device)
	if chain.Hook == "postrouting" {
		return out
	}
	return out + fmt.Sprintf(" && %s -t %s -I %s -i %s -j ACCEPT", program, chain.Table, chain.Name, device)
}

// isIdentifier reports whether nft, iptables and a shell take a name literally.
func isIdentifier(name string) bool {
	return name != "" && name[0] != '-' && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == ""
}

// conntrackFull returns the usage of the kernel's connection tracking table if
// it is nearly full; otherwise "".
func conntrackFull(c *checker) string {
	if c.host.Setting == nil {
		return ""
	}
	used, err := c.setting("netfilter/nf_conntrack_count")
	if err != nil {
		return ""
	}
	limit, err := c.setting("netfilter/nf_conntrack_max")
	const tenth = 10
	if err != nil || limit == 0 || used < limit-limit/tenth {
		return ""
	}
	return fmt.Sprintf("the connection tracking table has %d of %d entries", used, limit)
}
