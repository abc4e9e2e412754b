// Package bypass finds what in the host's own network configuration lets
// packets bypass the gateway, or keeps clients out.
//
// The kernel's policy rules and routing tables determine whether a protected
// address is hidden. A more specific route, a rule of higher priority, an
// address on an interface, or disabled forwarding can bypass the gateway.
// Evaluate walks a State, a snapshot of all of them, like the kernel does for a
// packet from outside, and returns a Problem for each path that does not end at
// the gateway's device. It is a pure function: Read takes the snapshot, and
// With adds the routes and rules that a gateway would install, so that a host
// can be examined before the gateway has ever started.
//
// Evaluate prefers false alarms: a rule whose selectors could match a packet
// from outside (a mark, a source, an interface) counts as matching. It takes
// neither packet filters nor other hosts into account.
package bypass

import (
	"net/netip"
	"slices"

	"github.com/knockgw/knockgw/internal/routing"
)

// A State is a snapshot of the host's network configuration.
type State struct {
	Links  []Link
	Rules  []Rule  // of both families, each in the order in which the kernel consults them
	Routes []Route // those that match a protected address, and the default routes
	// Forwarding6 is the IPv6 setting that applies to all interfaces.
	Forwarding6 bool
	// RPFilter is the IPv4 setting for all interfaces; the larger of it and an
	// interface's own takes effect.
	RPFilter int
	// NoSettings reports that the settings of interfaces could not be read.
	NoSettings bool
}

// A Link is a network interface.
type Link struct {
	Index    int
	Name     string
	Up       bool
	Loopback bool
	VRFTable uint32 // of a VRF device; otherwise 0

	Forwarding  bool // IPv4
	RPFilter    int  // IPv4
	AcceptLocal bool // IPv4
	// ForceForwarding6 forwards packets regardless of State.Forwarding6.
	ForceForwarding6 bool
}

// A Route is an entry of a routing table.
type Route struct {
	Dst     netip.Prefix
	Table   uint32
	Metric  uint32
	TOS     uint8 // IPv4: only packets with it
	Type    Type
	Links   []int // outgoing interfaces; several for a multipath route
	Gateway bool  // the next hop is a router
	Nexthop uint32
	Ours    bool
	Dead    bool // not used while its interface is down
}

// A Type is the type of a route (rtnetlink(7), rtm_type).
type Type uint8

// The types of rtnetlink(7).
const (
	Unicast     Type = 1
	LocalHost   Type = 2
	Broadcast   Type = 3
	Anycast     Type = 4
	Multicast   Type = 5
	Blackhole   Type = 6
	Unreachable Type = 7
	Prohibit    Type = 8
	Throw       Type = 9
)

// String returns the name in the syntax of ip route.
func (t Type) String() string {
	names := []string{"none", "unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit", "throw"}
	if int(t) < len(names) {
		return names[t]
	}
	return "unknown"
}

// An Action is the action of a policy rule (linux/fib_rules.h).
type Action uint8

// The actions of linux/fib_rules.h.
const (
	ToTable         Action = 1
	Goto            Action = 2
	Nop             Action = 3
	RuleBlackhole   Action = 6
	RuleUnreachable Action = 7
	RuleProhibit    Action = 8
)

// A Rule is a policy rule. The zero value of a selector matches every packet.
type Rule struct {
	V6             bool
	Priority       uint32
	Invert         bool
	From, To       netip.Prefix
	In, Out        string
	Mark, Mask     uint32
	TOS            uint8
	TunID          uint64
	UIDs           string // as ip rule shows them
	IPProto        uint8
	Sport, Dport   PortRange
	L3MDev         bool // the table is that of the packet's VRF
	Other          bool // has unknown selectors
	Action         Action
	Table          uint32
	GotoPriority   uint32
	SuppressLength int // ignores routes of this prefix length or shorter; -1 for none
	SuppressGroup  bool
	Ours           bool
}

// A PortRange is a range of ports; the zero value is every port.
type PortRange struct{ First, Last uint16 }

func (r PortRange) contains(port uint16) bool { return r.First <= port && port <= r.Last }

// Protected is the part of a configuration that Evaluate needs.
type Protected struct {
	// Device is the name of the gateway's interface.
	Device string
	// Routes are the prefixes, and Local the ports of the host's own addresses.
	Routes    routing.Routes
	HostPorts routing.HostPorts
	// Services are the addresses at which clients must reach the gateway.
	Services []netip.Prefix
}

// Severity says what a Problem means for unauthorized hosts and for clients.
type Severity string

// The severities.
const (
	// Open: unauthorized hosts are answered, or their packets bypass the
	// gateway.
	Open Severity = "open"
	// Unusable: silent, but clients are not admitted.
	Unusable Severity = "unreachable"
	// Unknown: could not be determined.
	Unknown Severity = "unknown"
)

// A Problem is a path by which packets do not reach the gateway.
type Problem struct {
	Subject  string   `json:"subject"` // the prefix or port
	Severity Severity `json:"severity"`
	Message  string   `json:"message"`
	Remedy   string   `json:"remedy"` // a command, or what to do
}

// String formats the problem in one line.
func (p Problem) String() string { return p.Subject + ": " + p.Message + "; remedy: " + p.Remedy }

// Filter returns the problems of one severity.
func Filter(all []Problem, s Severity) []Problem {
	return slices.DeleteFunc(slices.Clone(all), func(p Problem) bool { return p.Severity != s })
}

// link returns the interface with an index, or nil.
func (s *State) link(index int) *Link {
	return s.findLink(func(l *Link) bool { return l.Index == index })
}

// named returns the interface with a name, or nil.
func (s *State) named(name string) *Link {
	return s.findLink(func(l *Link) bool { return l.Name == name })
}

func (s *State) findLink(match func(*Link) bool) *Link {
	for i := range s.Links {
		if match(&s.Links[i]) {
			return &s.Links[i]
		}
	}
	return nil
}
