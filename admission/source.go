package admission

import (
	"sync"
	"time"

	"github.com/knockgw/knockgw/packet"
)

// A source is what the gate knows of one address: the grants that it holds, its
// knocks that wait for a decision, and its SYNs that wait for them. It exists as
// long as there is any of these.
type source struct {
	addr     packet.Addr
	grants   []*grant // in order of arrival
	queued   int      // its knocks in the queue; it is pending while there are any
	done     uint32   // its knocks decided so far; wraps around
	deferred int      // its deferred SYNs
	flows    int      // flows that refer to it
	mtu      pathMTU  // of the path to it, as far as ICMP errors have shown
	subnet   *subnet  // what it is counted against; nil until there is anything to count
	self     subnet   // for IPv4, where it is its own subnet
}

// A subnet is what limits per source count: an IPv4 address, or an IPv6 /64,
// because one host can use 2^64 addresses of it.
type subnet struct {
	grants int
	// Flows whose handshake is done and whose relay is not, for a SYN can be
	// forged: those of clients and on grants, and those of open services that
	// have not authenticated. A neighbor behind the same NAT can cause the
	// latter, and must not take the room of the former.
	flows, unauthenticated int
	sources                int     // that are counted here; IPv6 only
	offloaded              int     // flows in the table that the Offload knows
	handshakes             flowSet // with hidden services under way
}

// count returns the count of the subnet that f is in.
func (n *subnet) count(f *flow) *int {
	if f.open && f.state == stateEstablished {
		return &n.unauthenticated
	}
	return &n.flows
}

// admits reports whether another flow may begin from the subnet, on a grant or
// not.
func (n *subnet) admits(granted bool, limit int) bool {
	return n.flows < limit && (granted || n.unauthenticated < limit)
}

// freeSources is how many records of addresses are kept for reuse: the number
// that a flood of forged SYNs to an open service goes through in some
// milliseconds.
const freeSources = 4096

// A sourceTable has the sources, their subnets, and the grants and flows of
// clients. The gate's lock guards it.
type sourceTable struct {
	mu      *sync.Mutex // the gate's
	limits  *Limits
	mono    func() time.Duration
	offload Offload

	byAddr  map[packet.Addr]*source
	free    []*source
	subnets map[packet.Addr]*subnet // by IPv6 /64
	clients map[string]*clientUsage // by client id
	grants  int                     // of all sources
}

func (t *sourceTable) init(mu *sync.Mutex, limits *Limits, mono func() time.Duration, offload Offload) {
	*t = sourceTable{
		mu: mu, limits: limits, mono: mono, offload: offload,
		byAddr:  make(map[packet.Addr]*source, limits.Knocks),
		free:    make([]*source, 0, freeSources),
		subnets: make(map[packet.Addr]*subnet),
		clients: make(map[string]*clientUsage),
	}
}

// get returns the record of an address, creating it if necessary. The records of
// pending sources are bounded by the knock queue, and come from a free list, so
// that junk from ever new addresses makes no garbage.
func (t *sourceTable) get(a packet.Addr) *source {
	if s := t.byAddr[a]; s != nil {
		return s
	}
	var s *source
	if n := len(t.free); n > 0 {
		s = t.free[n-1]
		t.free = t.free[:n-1]
	} else {
		s = new(source)
	}
	s.addr = a
	t.byAddr[a] = s
	t.offload.Source(a, true)
	return s
}

// removeIfUnused forgets s if nothing is left of it.
func (t *sourceTable) removeIfUnused(s *source) {
	if len(s.grants) > 0 || s.queued > 0 || s.deferred > 0 || s.flows > 0 {
		return
	}
	delete(t.byAddr, s.addr)
	t.offload.Source(s.addr, false)
	if s.subnet != nil && s.subnet != &s.self {
		if s.subnet.sources--; s.subnet.sources == 0 {
			delete(t.subnets, s.addr.Subnet())
		}
	}
	s.subnet, s.self, s.mtu = nil, subnet{}, pathMTU{}
	if len(t.free) < cap(t.free) {
		t.free = append(t.free, s)
	}
}

// subnetOf returns the subnet of s.
func (t *sourceTable) subnetOf(s *source) *subnet {
	switch {
	case s.subnet != nil:
	case s.addr.Is4():
		s.subnet = &s.self
	default:
		net := s.addr.Subnet()
		n := t.subnets[net]
		if n == nil {
			n = new(subnet)
			t.subnets[net] = n
		}
		n.sources++
		s.subnet = n
	}
	return s.subnet
}

// markPending notes that a knock of src is being decided. It reports false where
// there are too many.
func (t *sourceTable) markPending(src packet.Addr) bool {
	s := t.get(src)
	if s.queued >= t.limits.KnocksPerSource {
		return false
	}
	s.queued++
	return true
}

// clientUsage is what a client has at the moment, from all its addresses.
type clientUsage struct {
	grants     []*grant // in no order
	flows      int
	handshakes flowSet // with hidden services under way, on its grants
	authorized queue   // its flows, in the order in which they were authorized
}

// usageOf returns a client's usage, to be changed.
func (t *sourceTable) usageOf(client string) *clientUsage {
	u := t.clients[client]
	if u == nil {
		u = new(clientUsage)
		t.clients[client] = u
	}
	return u
}

// dropIfEmpty forgets a client's usage if there is none.
func (t *sourceTable) dropIfEmpty(client string, u *clientUsage) {
	if len(u.grants) == 0 && u.flows == 0 && u.handshakes.n() == 0 {
		delete(t.clients, client)
	}
}
