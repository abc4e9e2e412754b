package bypass

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/knockgw/knockgw/internal/routing"
)

// Interfaces of the hosts below.
const (
	lo = iota + 1
	eth0
	eth1
	knock0
)

const (
	prefixTable = 108
	portTable   = 107
)

func prefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }

// healthy is a host on which nothing bypasses the gateway.
func healthy() *State {
	s := &State{
		Forwarding6: true,
		Links: []Link{
			{Index: lo, Name: "lo", Up: true, Loopback: true, Forwarding: true},
			{Index: eth0, Name: "eth0", Up: true, Forwarding: true},
			{Index: eth1, Name: "eth1", Up: true, Forwarding: true},
			{Index: knock0, Name: "knock0", Up: true, Forwarding: true, AcceptLocal: true, RPFilter: 2},
		},
		Routes: []Route{
			{Dst: prefix("0.0.0.0/0"), Table: tableMain, Type: Unicast, Links: []int{eth0}, Gateway: true},
			{Dst: prefix("10.20.0.0/24"), Table: tableMain, Type: Unicast, Links: []int{eth1}},
			{Dst: prefix("10.20.0.1/32"), Table: tableLocal, Type: LocalHost, Links: []int{eth1}},
			{Dst: prefix("10.20.0.255/32"), Table: tableLocal, Type: Broadcast, Links: []int{eth1}},
			{Dst: prefix("203.0.113.7/32"), Table: tableLocal, Type: LocalHost, Links: []int{eth0}},
		},
	}
	for _, p := range []string{"10.77.0.0/24", "10.20.0.0/24", "fd77::/64"} {
		for _, table := range []uint32{tableMain, prefixTable} {
			s.Routes = append(s.Routes,
				Route{Dst: prefix(p), Table: table, Metric: 64, Type: Unicast, Links: []int{knock0}, Ours: true},
				Route{Dst: prefix(p), Table: table, Metric: 9999, Type: Blackhole, Ours: true})
		}
	}
	s.Routes = append(s.Routes,
		Route{Dst: prefix("203.0.113.7/32"), Table: portTable, Metric: 64, Type: Unicast, Links: []int{knock0}, Ours: true})
	s.Rules = []Rule{
		{To: prefix("10.20.0.0/24"), In: "eth1", Table: tableLocal, Ours: true},
		{To: prefix("10.20.0.0/24"), In: "eth1", Table: tableMain, Ours: true},
		{Invert: true, In: "lo", Table: prefixTable, Ours: true},
		{To: prefix("203.0.113.7/32"), IPProto: protocolTCP, Dport: PortRange{22, 22}, Table: portTable, Ours: true},
		{To: prefix("203.0.113.7/32"), IPProto: protocolUDP, Dport: PortRange{22, 22}, Table: portTable, Ours: true},
		{To: prefix("203.0.113.7/32"), IPProto: protocolTCP, Dport: PortRange{1, 65534}, Table: tableLocal, Ours: true},
		{Table: tableLocal},
		{Priority: 32766, Table: tableMain},
		{V6: true, Invert: true, In: "lo", Table: prefixTable, Ours: true},
		{V6: true, Table: tableLocal},
		{V6: true, Priority: 32766, Table: tableMain},
	}
	for i := range s.Rules {
		s.Rules[i].Action, s.Rules[i].SuppressLength = ToTable, -1
	}
	return s
}

func protects() *Protected {
	return &Protected{
		Device: "knock0",
		Routes: routing.Routes{
			Prefixes:      []netip.Prefix{prefix("10.77.0.0/24"), prefix("10.20.0.0/24"), prefix("fd77::/64")},
			UpstreamLinks: []routing.UpstreamLink{{Prefix: prefix("10.20.0.0/24"), Device: "eth1"}},
		},
		HostPorts: routing.HostPorts{Ports: []netip.AddrPort{netip.MustParseAddrPort("203.0.113.7:22")}},
		Services:  []netip.Prefix{prefix("10.77.0.1/32"), prefix("10.20.0.0/24"), prefix("fd77::1/128")},
	}
}

// first inserts a rule before all others.
func (s *State) first(r Rule) {
	r.SuppressLength = -1
	if r.Action == 0 {
		r.Action = ToTable
	}
	s.Rules = append([]Rule{r}, s.Rules...)
}

// withoutRules removes the rules of knockgw.
func (s *State) withoutRules() {
	s.Rules = slices.DeleteFunc(s.Rules, func(r Rule) bool { return r.Ours })
}

func TestEvaluateHealthyHost(t *testing.T) {
	if all := Evaluate(healthy(), protects()); len(all) > 0 {
		t.Errorf("%v", all)
	}
}

func TestEvaluateReportsBypasses(t *testing.T) {
	for name, c := range map[string]struct {
		change   func(*State)
		severity Severity // "" for no problem
		says     []string
	}{
		"a narrower route behind our rule": {func(s *State) {
			s.Routes = append(s.Routes, Route{Dst: prefix("10.77.0.128/25"), Table: tableMain, Type: Unicast, Links: []int{eth1}})
		}, "", nil},
		"an address on an interface behind our rule": {func(s *State) {
			s.Routes = append(s.Routes, Route{Dst: prefix("10.77.0.5/32"), Table: tableLocal, Type: LocalHost, Links: []int{eth1}})
		}, "", nil},
		"rules of another program behind ours": {func(s *State) {
			s.Rules = append(s.Rules, Rule{Priority: 5, Action: RuleUnreachable, SuppressLength: -1})
		}, "", nil},
		"a narrower route in our table": {func(s *State) {
			s.Routes = append(s.Routes, Route{Dst: prefix("10.77.0.128/25"), Table: prefixTable, Type: Unicast, Links: []int{eth1}})
		}, Open, []string{"10.77.0.128/25", "eth1", "ip route del 10.77.0.128/25 dev eth1 table 108"}},
		"an equal route with a better metric in our table": {func(s *State) {
			s.Routes = append(s.Routes, Route{Dst: prefix("10.77.0.0/24"), Table: prefixTable, Metric: 5, Type: Unicast, Links: []int{eth1}})
		}, Open, []string{"metric 5"}},
		"an equal route with a worse metric": {func(s *State) {
			s.Routes = append(s.Routes, Route{Dst: prefix("10.77.0.0/24"), Table: prefixTable, Metric: 65, Type: Unicast, Links: []int{eth1}})
		}, "", nil},
		"a route for one type of service": {func(s *State) {
			s.Routes = append(s.Routes, Route{Dst: prefix("10.77.0.0/24"), Table: prefixTable, TOS: 8, Type: Unicast, Links: []int{eth1}})
		}, Open, []string{"tos 0x8"}},
		"a dead route": {func(s *State) {
			s.Routes = append(s.Routes, Route{Dst: prefix("10.77.0.128/25"), Table: prefixTable, Type: Unicast, Links: []int{eth1}, Dead: true})
		}, "", nil},
		"a multipath route with one way past us": {func(s *State) {
			s.Routes = append(s.Routes, Route{Dst: prefix("10.77.0.1/32"), Table: prefixTable, Type: Unicast, Links: []int{knock0, eth1}})
		}, Open, []string{"eth1"}},
		"a nexthop object that cannot be resolved": {func(s *State) {
			s.Routes = append(s.Routes, Route{Dst: prefix("10.77.0.1/32"), Table: prefixTable, Type: Unicast, Nexthop: 7})
		}, Open, []string{"nhid 7"}},
		"a rule to the main table": {func(s *State) {
			s.Routes = append(s.Routes, Route{Dst: prefix("10.77.0.128/25"), Table: tableMain, Type: Unicast, Links: []int{eth1}})
			s.first(Rule{Table: tableMain})
		}, Open, []string{"10.77.0.128/25"}},
		"a rule to the main table where that leads to us": {func(s *State) {
			s.Routes = slices.DeleteFunc(s.Routes, func(r Route) bool { return r.Dst == prefix("10.20.0.0/24") && !r.Ours })
			s.first(Rule{To: prefix("10.77.0.0/24"), Table: tableMain})
		}, "", nil},
		"a rule with a mark": {func(s *State) {
			s.first(Rule{Mark: 1, Table: 200})
			s.Routes = append(s.Routes, Route{Dst: prefix("0.0.0.0/0"), Table: 200, Type: Unicast, Links: []int{eth1}})
		}, Open, []string{"fwmark 0x1"}},
		"a rule by interface": {func(s *State) {
			s.first(Rule{In: "eth0", Action: RuleBlackhole})
		}, Unusable, []string{"iif eth0", "blackhole"}},
		"a rule of the host's own packets": {func(s *State) {
			s.first(Rule{In: "lo", Action: RuleUnreachable})
		}, "", nil},
		"a rule by outgoing interface": {func(s *State) {
			s.first(Rule{Out: "eth1", Action: RuleUnreachable})
		}, "", nil},
		"a rule by source": {func(s *State) {
			s.first(Rule{From: prefix("198.51.100.0/24"), Action: RuleProhibit})
		}, Open, []string{"198.51.100.0/24", "ICMP"}},
		"a rule by user": {func(s *State) {
			s.first(Rule{UIDs: "0-0", Action: RuleUnreachable})
		}, Open, []string{"uidrange 0-0"}},
		"a rule by tunnel": {func(s *State) {
			s.first(Rule{TunID: 5, Table: tableLocal})
		}, Unusable, []string{"tun_id 5"}},
		"a rule with an unknown selector": {func(s *State) {
			s.first(Rule{Other: true, Action: RuleBlackhole})
		}, Unusable, []string{"unknown selectors"}},
		"a rule for other addresses": {func(s *State) {
			s.first(Rule{To: prefix("192.0.2.0/24"), Action: RuleUnreachable})
		}, "", nil},
		"a rule for a part": {func(s *State) {
			s.first(Rule{To: prefix("10.77.0.0/28"), Action: RuleBlackhole})
		}, Unusable, []string{"10.77.0.0/28"}},
		"a rule for a part without a service": {func(s *State) {
			s.first(Rule{To: prefix("10.77.0.128/25"), Action: RuleBlackhole})
		}, "", nil},
		"a rule that is inverted": {func(s *State) {
			s.first(Rule{Invert: true, To: prefix("192.0.2.0/24"), Table: 200})
			s.Routes = append(s.Routes, Route{Dst: prefix("0.0.0.0/0"), Table: 200, Type: Unicast, Links: []int{eth1}})
		}, Open, []string{"eth1"}},
		"a jump past our rules": {func(s *State) {
			s.first(Rule{Action: Goto, GotoPriority: 32766})
			s.Routes = append(s.Routes, Route{Dst: prefix("10.77.0.128/25"), Table: tableMain, Type: Unicast, Links: []int{eth1}})
		}, Open, []string{"10.77.0.128/25"}},
		"a jump with a condition": {func(s *State) {
			s.first(Rule{In: "eth0", Action: Goto, GotoPriority: 32766})
			s.Routes = append(s.Routes, Route{Dst: prefix("10.77.0.128/25"), Table: tableMain, Type: Unicast, Links: []int{eth1}})
		}, Open, []string{"iif eth0"}},
		"a table that throws": {func(s *State) {
			s.first(Rule{Table: 200})
			s.Routes = append(s.Routes, Route{Dst: prefix("0.0.0.0/0"), Table: 200, Type: Throw})
		}, "", nil},
		"a suppressed default route": {func(s *State) {
			s.first(Rule{Table: 200})
			s.Rules[0].SuppressLength = 0
			s.Routes = append(s.Routes, Route{Dst: prefix("0.0.0.0/0"), Table: 200, Type: Unicast, Links: []int{eth0}})
		}, "", nil},
		"a narrower route beside a suppressed one": {func(s *State) {
			s.first(Rule{Table: 200})
			s.Rules[0].SuppressLength = 0
			s.Routes = append(s.Routes, Route{Dst: prefix("10.77.0.0/16"), Table: 200, Type: Unicast, Links: []int{eth1}})
		}, Open, []string{"10.77.0.0/16"}},
		"a VRF before our rules": {func(s *State) {
			s.Links = append(s.Links, Link{Index: 9, Name: "blue", Up: true, VRFTable: 300, Forwarding: true})
			s.first(Rule{L3MDev: true})
			s.Routes = append(s.Routes, Route{Dst: prefix("0.0.0.0/0"), Table: 300, Type: Unreachable})
		}, Open, []string{"blue", "ICMP"}},
		"a rule for VRFs where there is none":      {func(s *State) { s.first(Rule{L3MDev: true}) }, "", nil},
		"the host's subnet by its connected route": {func(s *State) { s.withoutRules() }, Open, []string{"10.20.0.0/24", "eth1"}},
		"upstreams behind an interface that leads out": {func(s *State) {
			s.Routes = append(s.Routes, Route{Dst: prefix("0.0.0.0/0"), Table: tableMain, Metric: 100, Type: Unicast, Links: []int{eth1}, Gateway: true})
		}, Open, []string{"iif eth1"}},
		"no rule and no route": {func(s *State) {
			s.withoutRules()
			s.Routes = slices.DeleteFunc(s.Routes, func(r Route) bool { return r.Ours || r.Dst.Bits() == 0 })
		}, Open, []string{"Destination Unreachable"}},
		"the device is gone": {func(s *State) {
			s.Links = slices.DeleteFunc(s.Links, func(l Link) bool { return l.Index == knock0 })
			s.Routes = slices.DeleteFunc(s.Routes, func(r Route) bool { return slices.Contains(r.Links, knock0) })
		}, Unusable, []string{"dropped by the route blackhole"}},
		"forwarding is off": {func(s *State) {
			for i := range s.Links {
				s.Links[i].Forwarding = s.Links[i].Name == "knock0"
			}
		}, Unusable, []string{"sysctl -w net.ipv4.ip_forward=1"}},
		"forwarding is off where the default route is": {func(s *State) { s.Links[1].Forwarding = false },
			Unusable, []string{"eth0"}},
		"forwarding is off elsewhere": {func(s *State) { s.Links[2].Forwarding = false }, "", nil},
		"forwarding of the device is off": {func(s *State) { s.Links[3].Forwarding = false },
			Unusable, []string{"sysctl -w net.ipv4.conf.knock0.forwarding=1"}},
		"forwarding of IPv6 is off":           {func(s *State) { s.Forwarding6 = false }, Unusable, []string{"sysctl -w net.ipv6.conf.all.forwarding=1"}},
		"forwarding of IPv6 by one interface": {func(s *State) { s.Forwarding6 = false; s.Links[1].ForceForwarding6 = true }, "", nil},
		"sources are filtered loosely":        {func(s *State) { s.RPFilter = 1 }, "", nil},
		"sources are filtered at the device":  {func(s *State) { s.Links[3].RPFilter = 1 }, Unusable, []string{"rp_filter=2"}},
		"own addresses are refused":           {func(s *State) { s.Links[3].AcceptLocal = false }, Unusable, []string{"accept_local=1"}},
		"settings that cannot be read":        {func(s *State) { s.NoSettings = true }, Unknown, []string{"could not be determined"}},
		"a rule of the port to the host": {func(s *State) {
			s.first(Rule{To: prefix("203.0.113.7/32"), Table: tableLocal})
		}, Unusable, []string{"TCP port 203.0.113.7:22", "this host itself"}},
		"a rule of another port": {func(s *State) {
			s.first(Rule{To: prefix("203.0.113.7/32"), IPProto: protocolTCP, Dport: PortRange{80, 80}, Action: RuleProhibit})
		}, "", nil},
		"a rule of another protocol": {func(s *State) {
			s.first(Rule{To: prefix("203.0.113.7/32"), IPProto: 47, Action: RuleProhibit})
		}, "", nil},
		"a rule by source port": {func(s *State) {
			s.first(Rule{To: prefix("203.0.113.7/32"), Sport: PortRange{53, 53}, Action: RuleProhibit})
		}, Open, []string{"sport 53-53"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := healthy()
			c.change(s)
			all := Evaluate(s, protects())
			if c.severity == "" {
				if len(all) > 0 {
					t.Errorf("it reports %v", all)
				}
				return
			}
			for _, p := range Filter(all, c.severity) {
				if text := p.String(); !slices.ContainsFunc(c.says, func(w string) bool { return !strings.Contains(text, w) }) {
					return
				}
			}
			t.Errorf("no %s problem says %q: %v", c.severity, c.says, all)
		})
	}
}

// Names of interfaces may contain anything but slashes and white space.
func TestEvaluateQuotesNamesInRemedies(t *testing.T) {
	s := healthy()
	s.Links[2].Name = "e;reboot"
	s.Routes = append(s.Routes, Route{Dst: prefix("10.77.0.128/25"), Table: prefixTable, Type: Unicast, Links: []int{eth1}})
	all := Evaluate(s, protects())
	if len(all) == 0 || !strings.Contains(all[0].Remedy, "dev 'e;reboot'") {
		t.Errorf("it says %v", all)
	}
}

func TestCoveredByHalves(t *testing.T) {
	for _, c := range []struct {
		of    string
		parts []string
		want  bool
	}{
		{"10.0.0.0/8", nil, false},
		{"10.0.0.0/8", []string{"0.0.0.0/0"}, true},
		{"10.0.0.0/8", []string{"10.0.0.0/9", "10.128.0.0/9"}, true},
		{"10.0.0.0/8", []string{"10.0.0.0/9", "10.128.0.0/10"}, false},
		{"10.0.0.0/30", []string{"10.0.0.0/32", "10.0.0.1/32", "10.0.0.2/32", "10.0.0.3/32"}, true},
		{"fd00::/8", []string{"fd00::/9", "fd80::/9"}, true},
		{"10.0.0.1/32", []string{"10.0.0.0/32"}, false},
	} {
		var parts []netip.Prefix
		for _, p := range c.parts {
			parts = append(parts, prefix(p))
		}
		if got := covered(parts, prefix(c.of)); got != c.want {
			t.Errorf("%s by %v: %v", c.of, c.parts, got)
		}
	}
}

// Many rules with goto must not make the walk long.
func TestEvaluateIsBoundedWithManyJumps(t *testing.T) {
	s := healthy()
	const jumps = 1000
	var rules []Rule
	for i := range uint32(jumps) {
		rules = append(rules, Rule{Priority: i, In: "eth0", Mark: i, Action: Goto, GotoPriority: i + 2, SuppressLength: -1})
	}
	s.Rules = append(rules, s.Rules...)
	Evaluate(s, protects())
}

func FuzzEvaluate(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Fuzz(func(_ *testing.T, b []byte) {
		next := func() byte {
			if len(b) == 0 {
				return 0
			}
			c := b[0]
			b = b[1:]
			return c
		}
		s := healthy()
		some := []netip.Prefix{{}, prefix("10.77.0.0/24"), prefix("10.77.0.0/25"), prefix("0.0.0.0/0"), prefix("10.77.0.1/32"), prefix("fd77::/64"), prefix("::/0")}
		for range 8 {
			r := Rule{Priority: uint32(next()), Invert: next()&1 != 0, To: some[int(next())%len(some)], Action: Action(next() % 10),
				Table: uint32(next()), GotoPriority: uint32(next()), SuppressLength: int(int8(next())), L3MDev: next()&7 == 0, V6: next()&1 != 0}
			s.Rules = append(s.Rules, r)
			if p := some[int(next())%len(some)]; p.IsValid() {
				s.Routes = append(s.Routes, Route{Dst: p, Table: uint32(next()), Metric: uint32(next()), Type: Type(next() % 12), Links: []int{int(next())}})
			}
		}
		slices.SortStableFunc(s.Rules, func(a, b Rule) int { return int(a.Priority) - int(b.Priority) })
		Evaluate(s, protects())
	})
}
