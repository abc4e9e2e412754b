// Package bypass finds what in the host's own network configuration lets
// packets bypass the gateway, or keeps clients out.
//
// Whether a protected address is hidden is decided by the kernel's policy rules
// and routing tables: a narrower route, a rule of higher priority, an address on
// an interface, or forwarding that is off. Evaluate walks a State, a snapshot of
// all of them, as the kernel does for a packet from outside, and returns a
// Problem for each way that does not end at the gateway's device. It is a pure
// function: Read takes the snapshot, and With adds what a gateway would install,
// so that a host can be examined before the gateway has ever started.
//
// It errs on the side of reporting: a rule whose selectors could match a packet
// from outside (a mark, a source, an interface) counts as matching. What it does
// not see: packet filters, and what other hosts do.
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
	Routes []Route // those that a protected address can match, and the default routes
	// Forwarding6 is the IPv6 setting for all interfaces, which decides for each.
	Forwarding6 bool
	// RPFilter is the IPv4 setting for all interfaces; the larger of it and an
	// interface's own takes effect.
	RPFilter int
	// NoSettings says that the settings of interfaces could not be read.
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
	// ForceForwarding6 forwards whatever State.Forwarding6 says.
	ForceForwarding6 bool
}

// A Route is an entry of a routing table.
type Route struct {
	Dst     netip.Prefix
	Table   uint32
	Metric  uint32
	TOS     uint8 // IPv4: only packets with it
	Type    Type
	Links   []int // interfaces that it leads to; more than one where it is multipath
	Gateway bool  // the next hop is a router
	Nexthop uint32
	Ours    bool
	Dead    bool // not used while its interface is down
}

// Type is what a route does with packets (rtnetlink(7), rtm_type).
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

// String is the name that ip route shows.
func (t Type) String() string {
	names := []string{"none", "unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit", "throw"}
	if int(t) < len(names) {
		return names[t]
	}
	return "unknown"
}

// Action is what a policy rule does (linux/fib_rules.h).
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
	Other          bool // has selectors that are not known here
	Action         Action
	Table          uint32
	GotoPriority   uint32
	SuppressLength int // routes of this prefix length or shorter do not count; -1 for none
	SuppressGroup  bool
	Ours           bool
}

// A PortRange is a range of ports; the zero value is every port.
type PortRange struct{ First, Last uint16 }

func (r PortRange) contains(port uint16) bool { return r.First <= port && port <= r.Last }

// Protected is what a configuration protects.
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
	// Open: unauthorized hosts are answered, or their packets pass the gateway by.
	Open Severity = "open"
	// Unusable: silent, but clients do not get in.
	Unusable Severity = "unreachable"
	// Unknown: it could not be determined.
	Unknown Severity = "unknown"
)

// A Problem is a way in which packets do not come to the gateway.
type Problem struct {
	Subject  string   `json:"subject"` // the prefix or port
	Severity Severity `json:"severity"`
	Message  string   `json:"message"`
	Remedy   string   `json:"remedy"` // a command, or what to do
}

// String is a line for people.
func (p Problem) String() string { return p.Subject + ": " + p.Message + "; remedy: " + p.Remedy }

// Filter returns the problems of one severity.
func Filter(all []Problem, s Severity) []Problem {
	return slices.DeleteFunc(slices.Clone(all), func(p Problem) bool { return p.Severity != s })
}

// link returns the interface with an index or a name.
func (s *State) link(index int) *Link {
	for i := range s.Links {
		if s.Links[i].Index == index {
			return &s.Links[i]
		}
	}
	return nil
}

func (s *State) named(name string) *Link {
	for i := range s.Links {
		if s.Links[i].Name == name {
			return &s.Links[i]
		}
	}
	return nil
}
