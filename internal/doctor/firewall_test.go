package doctor

import (
	"net/netip"
	"strings"
	"testing"
)

// chains returns a firewall with a base chain and others that it may jump to.
func chains(base Chain, others ...Chain) *Firewall {
	return &Firewall{Chains: append([]Chain{base}, others...)}
}

func TestFirewallCheckFindsBlockingRules(t *testing.T) {
	t.Parallel()
	forward := func(drops bool, rules ...Rule) Chain {
		return Chain{Family: "inet", Table: "filter", Name: "forward", Hook: "forward", Drops: drops, Rules: rules}
	}
	accept := Rule{Verdict: "accept", Out: "knock0"}
	for name, c := range map[string]struct {
		w   *Firewall
		fix string // "" if none is needed
	}{
		"no rules":                          {chains(forward(false)), ""},
		"a policy to drop":                  {chains(forward(true)), "nft insert rule inet filter forward oifname knock0 accept && nft insert rule inet filter forward iifname knock0 accept"},
		"and the device accepted":           {chains(forward(true, accept)), ""},
		"accepted too late":                 {chains(forward(false, Rule{Verdict: "reject"}, accept)), "oifname knock0 accept"},
		"a drop at the end":                 {chains(forward(false, Rule{Verdict: "drop"})), "oifname knock0 accept"},
		"a drop of what is something else":  {chains(forward(false, Rule{Verdict: "drop", Narrowed: true})), ""},
		"a reject for some":                 {chains(forward(false, Rule{Verdict: "reject", Narrowed: true})), "oifname knock0 accept"},
		"a reject at another interface":     {chains(forward(false, Rule{Verdict: "reject", Out: "docker0"})), ""},
		"a reject but at another interface": {chains(forward(false, Rule{Verdict: "reject", Out: "docker0", Negated: true})), "oifname knock0 accept"},
		"a reject in a chain that it jumps": {chains(forward(false, Rule{Verdict: "jump", Chain: "more"}), Chain{Family: "inet", Table: "filter", Name: "more", Rules: []Rule{{Verdict: "reject"}}}), "inet filter forward"},
		"a jump for others, to a chain that accepts": {chains(forward(true, Rule{Verdict: "jump", Chain: "more", In: "docker0"}),
			Chain{Family: "inet", Table: "filter", Name: "more", Rules: []Rule{{Verdict: "accept"}}}), "oifname knock0 accept"},
		"a jump for the device, to a chain that accepts": {chains(forward(true, Rule{Verdict: "jump", Chain: "more", Out: "knock0"}),
			Chain{Family: "inet", Table: "filter", Name: "more", Rules: []Rule{{Verdict: "accept"}}}), ""},
		"a jump for others, to a chain that rejects": {chains(forward(false, Rule{Verdict: "jump", Chain: "more", Out: "docker0"}),
			Chain{Family: "inet", Table: "filter", Name: "more", Rules: []Rule{{Verdict: "reject"}}}), ""},
		"firewalld":                          {chains(Chain{Family: "inet", Table: "firewalld", Name: "filter_FORWARD", Hook: "forward", Rules: []Rule{{Verdict: "reject"}}}), "firewall-cmd"},
		"chains that jump round":             {chains(forward(false, Rule{Verdict: "jump", Chain: "forward"}, Rule{Verdict: "jump", Chain: "forward"})), ""},
		"of another family":                  {chains(Chain{Family: "ip6", Table: "filter", Name: "forward", Hook: "forward", Drops: true}), ""},
		"of iptables":                        {chains(Chain{Family: "ip", Table: "filter", Name: "FORWARD", Hook: "forward", Drops: true}), "iptables -t filter -I FORWARD -o knock0 -j ACCEPT && iptables -t filter -I FORWARD -i knock0 -j ACCEPT"},
		"input chains do not matter":         {chains(Chain{Family: "ip", Table: "filter", Name: "INPUT", Drops: true, Rules: []Rule{{Verdict: "reject"}}}), ""},
		"another destination for everything": {chains(Chain{Family: "ip", Table: "nat", Name: "pre", Hook: "prerouting", Rules: []Rule{{Verdict: "dnat"}}}), "nft -a list chain ip nat pre"},
		"another destination for our port":   {chains(Chain{Family: "ip", Table: "nat", Name: "pre", Hook: "prerouting", Rules: []Rule{{Verdict: "dnat", Port: 22}}}), "nft -a list chain ip nat pre"},
		"for another port":                   {chains(Chain{Family: "ip", Table: "nat", Name: "pre", Hook: "prerouting", Rules: []Rule{{Verdict: "dnat", Port: 8080}}}), ""},
		"for another address":                {chains(Chain{Family: "ip", Table: "nat", Name: "pre", Hook: "prerouting", Rules: []Rule{{Verdict: "dnat", Dest: netip.MustParseAddr("198.51.100.1")}}}), ""},
		"another source for everything":      {chains(Chain{Family: "ip", Table: "nat", Name: "post", Hook: "postrouting", Rules: []Rule{{Verdict: "masquerade"}}}), "nft insert rule ip nat post oifname knock0 accept"},
		"for what leaves by eth0":            {chains(Chain{Family: "ip", Table: "nat", Name: "post", Hook: "postrouting", Rules: []Rule{{Verdict: "masquerade", Out: "eth0"}}}), ""},
		"for what does not leave by eth0":    {chains(Chain{Family: "ip", Table: "nat", Name: "post", Hook: "postrouting", Rules: []Rule{{Verdict: "masquerade", Out: "eth0", Negated: true}}}), "oifname knock0"},
		"for some sources":                   {chains(Chain{Family: "ip", Table: "nat", Name: "post", Hook: "postrouting", Rules: []Rule{{Verdict: "masquerade", Source: true}}}), ""},
		"what is not read":                   {&Firewall{Legacy: []string{"filter"}}, "iptables-legacy-save -t filter"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, o := healthy(t)
			o.Config.TUN.Routes = o.Config.TUN.Routes[:1] // of IPv4
			h.Firewall = func() (*Firewall, error) { return c.w, nil }
			for _, f := range Examine(t.Context(), h, o) {
				if f.Check == "firewall" && (f.Level == OK) != (c.fix == "") || f.Check == "firewall" && !strings.Contains(f.Fix, c.fix) {
					t.Errorf("got %+v, want %q", f, c.fix)
				}
			}
		})
	}
}
