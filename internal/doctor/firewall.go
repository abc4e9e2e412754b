package doctor

import (
	"net/netip"
	"slices"
)

// A Firewall is the host's packet filter, as far as it concerns packets for the
// gateway.
type Firewall struct {
	Chains []Chain
	Legacy []string // tables of legacy iptables, whose rules are not read
}

// A Chain is a list of rules. A base chain has a Hook; other chains are reached
// by jumps.
type Chain struct {
	Family, Table, Name string // in the syntax of nft
	Hook                string // "prerouting", "forward", "postrouting"; "" for others
	Drops               bool   // the policy is drop
	Rules               []Rule
}

// String returns the chain in the syntax of nft.
func (c *Chain) String() string { return c.Family + " " + c.Table + " " + c.Name }

// A Rule has the properties of a rule that the checks need.
type Rule struct {
	Verdict  string // "accept", "drop", "reject", "dnat", "masquerade", "jump", "goto"; "" for others
	Chain    string // the target of jump and goto
	Out      string // the outgoing interface that it matches; "" for any
	In       string // the incoming interface that it matches
	Negated  bool   // it matches all interfaces except In and Out
	Source   bool   // it matches certain sources only
	Dest     netip.Addr
	Port     uint16 // the destination port that it matches; 0 for any
	Narrowed bool   // it has other matches
}

// nestedIn returns the rule as it applies to packets that the rule outer has
// sent to its chain, which have to match both.
func (r Rule) nestedIn(outer *Rule) Rule {
	r.Source, r.Narrowed = r.Source || outer.Source, r.Narrowed || outer.Narrowed
	if r.In == "" && r.Out == "" {
		r.In, r.Out, r.Negated = outer.In, outer.Out, outer.Negated
	} else if outer.In != "" || outer.Out != "" {
		r.Narrowed = true
	}
	if !r.Dest.IsValid() {
		r.Dest = outer.Dest
	}
	if r.Port == 0 {
		r.Port = outer.Port
	}
	return r
}

const (
	// maxRules bounds the rules that walk visits from one base chain: chains
	// that jump to each other form a tree of exponential size.
	maxRules = 10_000
	// maxJumps is the depth of jumps that the kernel permits
	// (NFT_JUMP_STACK_SIZE).
	maxJumps = 16
)

// walk calls f with the rules that packets of a base chain may reach, in their
// order, until f returns false.
func (w *Firewall) walk(base *Chain, f func(*Rule) bool) {
	left := maxRules
	var visit func(c *Chain, outer *Rule, depth int) bool
	visit = func(c *Chain, outer *Rule, depth int) bool {
		for i := range c.Rules {
			r := c.Rules[i].nestedIn(outer)
			if left--; left <= 0 {
				return false
			}
			if r.Verdict != "jump" && r.Verdict != "goto" {
				if !f(&r) {
					return false
				}
				continue
			}

			target := slices.IndexFunc(w.Chains, func(o Chain) bool {
				return o.Family == c.Family && o.Table == c.Table && o.Name == r.Chain
			})
			if target >= 0 && depth < maxJumps && !visit(&w.Chains[target], &r, depth+1) {
				return false
			}
		}
		return true
	}
	visit(base, &Rule{}, 0)
}
