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

// A Firewall is what the host's packet filter does where packets for the gateway pass.
type Firewall struct {
	Chains []Chain
	Legacy []string // tables of the older iptables, whose rules are not read
}

// A Chain is one list of rules. That which packets come to by themselves has a Hook.
type Chain struct {
	Family, Table, Name string // as nft writes them
	Hook                string // "prerouting", "forward", "postrouting"; "" for others
	Drops               bool   // what comes to its end is dropped
	Rules               []Rule
}

// spelt writes the chain as nft takes it.
func (c *Chain) spelt() string { return c.Family + " " + c.Table + " " + c.Name }

// A Rule is one of a Chain's, as far as it matters here. What it matches besides
// is not looked at.
type Rule struct {
	Verdict string // "accept", "drop", "reject", "dnat", "masquerade", "jump", "goto", or "" for none of these
	Chain   string // where to, with jump and goto
	Out     string // only what leaves by this interface; "" for any
	In      string // only what comes by it
	Not     bool   // an interface is matched by not being it
	Source  bool   // only some sources
	Dest    netip.Addr
	Port    uint16 // only this destination port; 0 for any
	Narrow  bool   // something else is matched, too
}

// most is how many rules are followed from one hook: a firewall of jumps may have no end.
const mostRules = 10_000

// within is the rule as it is for packets that another rule has sent to its chain:
// what that one matches counts, too.
func (r Rule) within(outer *Rule) Rule {
	r.Source, r.Narrow = r.Source || outer.Source, r.Narrow || outer.Narrow
	if r.In == "" && r.Out == "" {
		r.In, r.Out, r.Not = outer.In, outer.Out, outer.Not
	} else if outer.In != "" || outer.Out != "" {
		r.Narrow = true
	}
	if !r.Dest.IsValid() {
		r.Dest = outer.Dest
	}
	if r.Port == 0 {
		r.Port = outer.Port
	}
	return r
}

// walk calls f with the rules that packets of a hook may meet, in their order, until f says false.
func (w *Firewall) walk(c *Chain, f func(*Rule) bool) {
	left := mostRules
	var into func(c *Chain, outer *Rule, depth int) bool
	into = func(c *Chain, outer *Rule, depth int) bool {
		for i := range c.Rules {
			r := c.Rules[i].within(outer)
			if left--; left <= 0 {
				return false
			}
			if r.Verdict != "jump" && r.Verdict != "goto" {
				if !f(&r) {
					return false
				}
				continue
			}
			at := slices.IndexFunc(w.Chains, func(o Chain) bool {
				return o.Family == c.Family && o.Table == c.Table && o.Name == r.Chain
			})
			if at >= 0 && depth < maxJumps && !into(&w.Chains[at], &r, depth+1) {
				return false
			}
		}
		return true
	}
	into(c, &Rule{}, 0)
}

// maxJumps is how deep the kernel lets chains call each other (NFT_JUMP_STACK_SIZE).
const maxJumps = 16

func (e *examination) firewall(context.Context) {
	const check = "firewall"
	w, ok := learn(e, check, e.host.Firewall)
	if !ok {
		return
	}
	good := true
	bad := func(mend, found string, args ...any) {
		good = false
		e.bad(Warn, check, mend, found, args...)
	}
	for _, table := range w.Legacy {
		bad("iptables-legacy-save -t "+termsafe.Shell(table)+" # and ip6tables-legacy-save; to accept: iptables-legacy -I FORWARD -o "+termsafe.Shell(e.Config.TUN.Name)+" -j ACCEPT, and with -i",
			"there is a table %s of iptables-legacy, whose rules are not read here: look whether one refuses what comes for the protected addresses", table)
	}
	for i := range w.Chains {
		c := &w.Chains[i]
		if !e.concerns(c) {
			continue
		}
		switch c.Hook {
		case "forward", "prerouting":
			e.refusing(w, c, bad)
			if c.Hook == "prerouting" {
				e.diverting(w, c, bad)
			}
		case "postrouting":
			e.masking(w, c, bad)
		}
	}
	if full, err := e.trackingFull(); err == nil && full != "" {
		bad("sysctl -w net.netfilter.nf_conntrack_max=1048576", "%s: the kernel drops what it cannot track", full)
	}
	if good {
		e.ok(check, "no rule of this host is in the way; those of others cannot be seen from here")
	}
}

// concerns tells whether a chain sees packets of a protected family.
func (e *examination) concerns(c *Chain) bool {
	v4, v6 := e.families()
	return v4 && c.Family != "ip6" || v6 && c.Family != "ip"
}

// admit is the command that has a chain accept what comes for the device, and from it.
func (e *examination) admit(c *Chain) string {
	if !identifier(c.Table) || !identifier(c.Name) || !identifier(e.Config.TUN.Name) { // which nft itself would read as more than a name
		return "nft -a list ruleset # and have the chain accept what goes to the device, and comes from it"
	}
	name := e.Config.TUN.Name
	if c.Name == strings.ToUpper(c.Name) { // iptables has made it
		program := "iptables"
		if c.Family == "ip6" {
			program = "ip6tables"
		}
		way := map[string]string{"forward": "-o", "postrouting": "-o"}[c.Hook]
		if way == "" {
			return fmt.Sprintf("%s -t %s -S %s", program, c.Table, c.Name)
		}
		first := fmt.Sprintf("%s -t %s -I %s -o %s -j ACCEPT", program, c.Table, c.Name, name)
		if c.Hook == "postrouting" {
			return first
		}
		return first + fmt.Sprintf(" && %s -t %s -I %s -i %s -j ACCEPT", program, c.Table, c.Name, name)
	}
	if c.Table == "firewalld" && c.Hook == "forward" { // which lets nobody else change its rules
		return fmt.Sprintf("firewall-cmd --permanent --zone=trusted --add-interface=%s && firewall-cmd --permanent --new-policy=knockgw"+
			" && firewall-cmd --permanent --policy=knockgw --add-ingress-zone=ANY && firewall-cmd --permanent --policy=knockgw --add-egress-zone=trusted"+
			" && firewall-cmd --permanent --policy=knockgw --set-target=ACCEPT && firewall-cmd --reload", name)
	}
	switch c.Hook {
	case "prerouting": // where they will leave is not known there yet
		return "nft -a list chain " + c.spelt()
	case "postrouting":
		return fmt.Sprintf("nft insert rule %s oifname %s accept", c.spelt(), name)
	default:
		return fmt.Sprintf("nft insert rule %s oifname %s accept && nft insert rule %[1]s iifname %[2]s accept", c.spelt(), name)
	}
}

// identifier reports whether a name is one that nft, iptables and a shell take as it
// stands.
func identifier(name string) bool {
	return name != "" && name[0] != '-' && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == ""
}

// admits tells whether a rule lets everything go to the device.
func (e *examination) admits(r *Rule) bool {
	return r.Verdict == "accept" && !r.Not && !r.Source && !r.Narrow && r.In == "" && r.Port == 0 && !r.Dest.IsValid() &&
		(r.Out == "" || r.Out == e.Config.TUN.Name)
}

// elsewhere tells whether a rule is about interfaces, addresses or ports that are not the gateway's.
func (e *examination) elsewhere(r *Rule) bool {
	t := &e.Config.TUN
	switch {
	case r.Out != "" && (r.Out == t.Name) == r.Not, r.In == t.Name && !r.Not, r.In == "lo" && !r.Not:
		return true
	case r.Dest.IsValid():
		return !slices.ContainsFunc(t.Routes, func(p netip.Prefix) bool { return p.Contains(r.Dest) }) &&
			!slices.ContainsFunc(t.Local, func(p netip.AddrPort) bool { return p.Addr() == r.Dest })
	case r.Port != 0:
		return r.Port != e.Config.Knock.UDPPort &&
			!slices.ContainsFunc(e.Config.Services, func(s config.Service) bool { return s.Port == r.Port })
	default:
		return false
	}
}

// refusing looks for what drops, or answers, what comes for the device.
func (e *examination) refusing(w *Firewall, c *Chain, bad func(mend, found string, args ...any)) {
	admitted, answers, drops := false, false, false
	w.walk(c, func(r *Rule) bool {
		switch {
		case e.admits(r):
			admitted = true
			return false
		case e.elsewhere(r):
		case r.Verdict == "reject":
			answers = true
		case r.Verdict == "drop" && !r.Narrow && !r.Source:
			drops = true
		}
		return true
	})
	if answers {
		bad(e.admit(c), "a rule of the chain %s rejects: strangers who meet it are answered, and see that something is there", c.spelt())
	}
	if drops || c.Drops && !admitted {
		bad(e.admit(c), "the chain %s drops what no rule accepts, and no rule accepts all that goes to %s", c.spelt(), e.Config.TUN.Name)
	}
}

// diverting looks for what gives packets for the gateway another destination.
func (e *examination) diverting(w *Firewall, c *Chain, bad func(mend, found string, args ...any)) {
	w.walk(c, func(r *Rule) bool {
		if r.Verdict != "dnat" || e.elsewhere(r) {
			return true
		}
		bad(e.admit(c)+" # and take the rule out, or have it match other addresses",
			"a rule of the chain %s gives packets another destination, and may do so with those for the protected addresses", c.spelt())
		return false
	})
}

// masking looks for what has all clients come from one address.
func (e *examination) masking(w *Firewall, c *Chain, bad func(mend, found string, args ...any)) {
	w.walk(c, func(r *Rule) bool {
		if e.admits(r) && r.Out != "" {
			return false
		}
		if r.Verdict != "masquerade" || r.Source || e.elsewhere(r) {
			return true
		}
		bad(e.admit(c), "a rule of the chain %s gives packets another source, also those that go to %s: "+
			"all clients would come from one address, and a knock of one opens the door for all", c.spelt(), e.Config.TUN.Name)
		return false
	})
}

// trackingFull says so where the kernel's table of connections is nearly full; "" where it is not, or there is none.
func (e *examination) trackingFull() (string, error) {
	if e.host.Setting == nil {
		return "", nil
	}
	have, err := e.enabled("netfilter/nf_conntrack_count")
	if err != nil {
		return "", err
	}
	most, err := e.enabled("netfilter/nf_conntrack_max")
	const tenth = 10
	if err != nil || most == 0 || have < most-most/tenth {
		return "", err
	}
	return fmt.Sprintf("the table of tracked connections has %d of %d", have, most), nil
}
