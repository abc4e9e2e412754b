package admission

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// A Mode says what a client must do to reach a service.
type Mode uint8

// The modes.
const (
	ModeAuth      Mode = iota // authenticate on the TCP connection; everybody may connect
	ModeKnock                 // knock
	ModeKnockAuth             // knock, then authenticate as the client that knocked
)

// Families is a set of knock methods. A packet-level gate cannot and need not
// tell a method from its passive spelling.
type Families uint8

// The families of knock methods.
const (
	FamilyUDP    Families = 1 << iota // udp, udp-passive
	FamilyUDPSeq                      // udp-seq, udp-passive-seq
	FamilySYN                         // tcp-syn
	FamilySYNSeq                      // tcp-syn-seq
	FamilyUDPv2                       // udp-v2

	familiesV1  = FamilyUDP | FamilyUDPSeq
	familiesUDP = familiesV1 | FamilyUDPv2
	familiesSYN = FamilySYN | FamilySYNSeq
)

// A Client is somebody who may use services. It is immutable once in a Policy.
type Client struct {
	ID      string
	Keys    []Key                  // of the same id; several while a secret is being changed
	Expires time.Time              // from then on the client is a stranger; zero: never
	Hours   func(t time.Time) bool // when the client may begin a flow; nil: always
	// MaxGrants and MaxFlows bound what the client has at a time; 0: Limits' defaults.
	MaxGrants, MaxFlows int
}

// A Key is one secret of a client.
type Key struct {
	Identity *protocol.Client
	Until    time.Time // from then on the secret opens nothing; zero: never
}

// NewClient returns a client with one key and no limits of its own.
func NewClient(id *protocol.Client) *Client {
	return &Client{ID: id.ID(), Keys: []Key{{Identity: id}}}
}

// key is a Key and whose it is.
type key struct {
	client *Client
	id     *protocol.Client
	until  time.Time
}

// valid tells whether the key opens anything at now.
func (k *key) valid(now time.Time) bool {
	return (k.until.IsZero() || now.Before(k.until)) && (k.client.Expires.IsZero() || now.Before(k.client.Expires))
}

// may tells whether the client may begin something at now.
func (c *Client) may(now time.Time) bool {
	return (c.Expires.IsZero() || now.Before(c.Expires)) && (c.Hours == nil || c.Hours(now))
}

// A Service is one protected TCP service. It is immutable once in a Policy.
type Service struct {
	Name    string
	Listen  netip.Prefix // the protected addresses; a single one is a prefix of full length
	Port    uint16       // the port that clients dial
	MACPort uint16       // the port in MACs and keys; equals Port unless a NAT changes it
	Mode    Mode
	Visible bool // ModeKnockAuth only: complete the TCP handshake with strangers

	Methods         Families
	SessionRequired bool          // a knock must carry a session id; ModeKnockAuth only
	GrantTTL        time.Duration // from the knock to the SYN
	GrantUses       int           // connections per knock
	AuthDeadline    time.Duration // how long a reservation may outlive its grant

	// Clients and Shared are who may use the service. Services to which one slice was
	// given share what is made of it: so where thousands of clients may use
	// thousands of services, give them in one slice, and those of a single service
	// in the other.
	Clients, Shared []*Client

	sets   []*clientSet // of Clients and Shared, but empty ones
	at     int          // in the policy's order
	subnet subnet       // Listen
}

// Open tells whether strangers' SYNs to the service are answered.
func (s *Service) Open() bool { return s.Mode == ModeAuth || s.Visible }

// Authenticates tells whether the service's flows authenticate.
func (s *Service) Authenticates() bool { return s.Mode != ModeKnock }

// PolicyOptions is what a Policy is made of.
type PolicyOptions struct {
	Services  []Service
	KnockPort uint16        // takes knocks besides each service's own number; 0 for none
	Window    time.Duration // how far a message's time may be from ours, either way; tcp-syn's slot, too
	Sequence  Sequence
	Slot      time.Duration // of udp-v2; default DefaultSlot
	Gateway   string        // this gateway's identity in udp-v2 knocks
	// After is the policy that this one is to take the place of, nil for none. Where
	// a client has the same key in both, the identity is shared: sequences that are
	// under way and knocks that were taken are remembered by it.
	After *Policy
}

// Sequence is what knocks of several parts are like. Zero fields take the defaults.
type Sequence struct {
	Length int           // parts; a SYN sequence has MaxSYNSequence at most
	Window time.Duration // from the first part of a UDP sequence to the last
	Slot   time.Duration // of a SYN sequence, in whole seconds
	Legacy bool          // take SYN sequences in the legacy spelling too
}

// Defaults. (docs/wire-formats.md, Conventions.)
const (
	DefaultSlot           = 30 * time.Second
	DefaultSequenceLength = 3
	DefaultSequenceWindow = 5 * time.Second
)

// A Policy says which services there are. It is immutable, so that the gate can
// swap one for another under running traffic.
type Policy struct {
	window       time.Duration
	slot         time.Duration
	sequence     Sequence
	gateway      string
	services     []*Service
	knockPort    uint16
	tcp          portTable // by the dialled port
	udp          portTable // by the port that takes knocks
	macs         portTable // by the port in MACs
	legacy       bool      // SYNs to any port of a protected address may be parts of sequences
	expectations []expectation
	numExpected  int // cells of all of them, in the slots that are kept
	holders      map[*Client]*holder
	limited      map[string]*Client // those with limits of their own, by id
	clients      map[string]*holder // one for each id
	numKeys      int                // of those
}

// NewPolicy checks o and builds the policy. It copies o.Services, and keeps nothing
// of o.After but identities.
func NewPolicy(o PolicyOptions) (*Policy, error) {
	if o.Window <= 0 {
		return nil, errors.New("policy: the time window must be positive")
	}
	p := &Policy{window: o.Window, slot: o.Slot, sequence: o.Sequence, gateway: o.Gateway, knockPort: o.KnockPort}
	p.defaults()
	if n := p.sequence.Length; n < protocol.MinSequence || n > protocol.MaxSequence {
		return nil, fmt.Errorf("policy: a sequence of %d parts; it has %d to %d", n, protocol.MinSequence, protocol.MaxSequence)
	}
	p.tcp, p.udp, p.macs = newPortTable(), newPortTable(), newPortTable()
	sets := newClientSets(o.After.identities())
	names := make(map[string]bool, len(o.Services))
	for i := range o.Services {
		s := o.Services[i]
		if s.Port == 0 || !s.Listen.IsValid() {
			return nil, fmt.Errorf("policy: service %q has no address and port", s.Name)
		}
		if s.MACPort == 0 {
			s.MACPort = s.Port
		}
		if names[s.Name] {
			return nil, fmt.Errorf("policy: two services are called %q", s.Name)
		}
		names[s.Name] = true
		if s.Mode == ModeAuth {
			s.Methods = 0
		}
		if s.Methods&FamilySYNSeq != 0 && p.sequence.Length > protocol.MaxSYNSequence {
			return nil, fmt.Errorf("policy: service %q takes SYN sequences, which have at most %d parts", s.Name, protocol.MaxSYNSequence)
		}
		if s.Methods&FamilyUDPv2 != 0 && len(p.gateway) > protocol.MaxGateway {
			return nil, fmt.Errorf("policy: service %q takes udp-v2, where the gateway's identity has at most %d bytes", s.Name, protocol.MaxGateway)
		}
		s.at, s.sets, s.subnet = i, nil, newSubnet(s.Listen) // it may have come out of another policy
		for _, clients := range [][]*Client{s.Clients, s.Shared} {
			if set := sets.of(clients); set != nil && !slices.Contains(s.sets, set) {
				s.sets = append(s.sets, set)
			}
		}
		p.services = append(p.services, &s)
		p.tcp.add(s.Port, &s)
		p.macs.add(s.MACPort, &s)
		p.legacy = p.legacy || p.sequence.Legacy && s.Methods&FamilySYNSeq != 0
		if s.Methods&familiesUDP == 0 {
			continue
		}
		p.udp.add(s.Port, &s)
		if o.KnockPort != 0 && o.KnockPort != s.Port {
			p.udp.add(o.KnockPort, &s)
		}
	}
	p.holders, p.limited, p.clients = sets.holders, make(map[string]*Client), make(map[string]*holder)
	for c, h := range p.holders {
		if p.clients[c.ID] == nil {
			p.clients[c.ID] = h
			p.numKeys += len(h.keys)
		}
		if c.MaxGrants != 0 || c.MaxFlows != 0 {
			p.limited[c.ID] = c
		}
	}
	if err := p.checkOverlaps(); err != nil {
		return nil, err
	}
	if err := p.expect(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Policy) defaults() {
	if p.slot <= 0 {
		p.slot = DefaultSlot
	}
	if p.sequence.Slot <= 0 {
		p.sequence.Slot = DefaultSlot
	}
	if p.sequence.Length == 0 {
		p.sequence.Length = DefaultSequenceLength
	}
	if p.sequence.Window <= 0 {
		p.sequence.Window = DefaultSequenceWindow
	}
}

// checkOverlaps returns an error where two services have an address and port in
// common. It compares those of each port in the order of their prefixes, where
// one that contains others comes right before them.
func (p *Policy) checkOverlaps() error {
	order := slices.Clone(p.services)
	slices.SortFunc(order, func(a, b *Service) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), a.Listen.Masked().Addr().Compare(b.Listen.Masked().Addr()),
			cmp.Compare(a.Listen.Bits(), b.Listen.Bits()))
	})
	for i := 1; i < len(order); i++ {
		if a, b := order[i-1], order[i]; a.Port == b.Port && a.Listen.Overlaps(b.Listen) {
			return fmt.Errorf("policy: services %q and %q overlap", a.Name, b.Name)
		}
	}
	return nil
}

// maxExpected bounds the knocks that are computed ahead: 32 bytes each, in each of
// two tables, half a GiB in all, and for a quarter of them an HMAC in every slot.
const maxExpected = 1 << 23

// expect lists which knocks can be computed ahead: for each key and port once,
// however many services have that port.
func (p *Policy) expect() error {
	type of struct {
		set  *clientSet
		port uint16
	}
	families := make(map[of]Families)
	var order []of
	setsOf := make(map[uint16]int) // by port
	for _, s := range p.services {
		f := s.Methods & (familiesSYN | FamilyUDPv2)
		if f == 0 {
			continue
		}
		for _, set := range s.sets {
			at := of{set, s.MACPort}
			if families[at] == 0 {
				order = append(order, at)
				setsOf[s.MACPort]++
			}
			families[at] |= f
		}
	}

	x := expecting{p: p, at: make(map[expectedOf]int)}
	for _, at := range order {
		for _, k := range at.set.keys {
			x.add(k, at.port, families[at], setsOf[at.port] > 1)
		}
		if p.numExpected = x.cells * slotsKept; p.numExpected > maxExpected {
			return fmt.Errorf("policy: the clients of these services could send more than %d different SYN and udp-v2 knocks at a time, "+
				"which are computed ahead and held in memory (%d for each secret and port with every method): "+
				"name fewer methods in services[].knock, have services share a port, or name in clients[].services which of them a client may use",
				maxExpected, (1+2*p.sequence.Length+1)*slotsKept)
		}
	}
	return nil
}

// expectedOf is what an expectation is for.
type expectedOf struct {
	id   *protocol.Client
	port uint16
}

// expecting fills a policy's expectations.
type expecting struct {
	p     *Policy
	at    map[expectedOf]int // those of ports with several sets of clients
	cells int                // that a slot takes
}

func (x *expecting) add(k *key, port uint16, families Families, again bool) {
	p := x.p
	i := len(p.expectations)
	if again {
		at, ok := x.at[expectedOf{k.id, port}]
		if ok {
			i = at
		} else {
			x.at[expectedOf{k.id, port}] = i
		}
	}
	if i == len(p.expectations) {
		p.expectations = append(p.expectations, expectation{key: k, port: port})
	}
	e := &p.expectations[i]
	x.cells -= e.count(p)
	e.families |= families
	x.cells += e.count(p)
}

// Services returns the policy's services, in the order given. The caller must not change them.
func (p *Policy) Services() []*Service { return p.services }

// KnockPort is where knocks are taken besides each service's own port; 0 for nowhere.
func (p *Policy) KnockPort() uint16 { return p.knockPort }

// Legacy tells whether SYNs to any port of a protected address may be parts of knocks.
func (p *Policy) Legacy() bool { return p.legacy }

// Expected is how many knocks are expected at a time: of all clients, in all the
// slots that are kept.
func (p *Policy) Expected() int { return p.numExpected }

// Service returns the service at a protected address and port, nil if there is none.
func (p *Policy) Service(a netip.AddrPort) *Service {
	return p.service(packet.AddrFrom(a.Addr()), a.Port())
}

func (p *Policy) service(dst packet.Addr, port uint16) *Service { return p.tcp.service(dst, port) }

func (s *Service) covers(dst packet.Addr) bool { return s.subnet.contains(&dst) }

// trials are how many keys a v1 knock may have to be tried with: all, or those of
// the clients of a known source.
type trials struct{ scan, known int }

// knockable returns the families of datagrams that are taken at dst and port.
func (p *Policy) knockable(dst packet.Addr, port uint16) (families Families) {
	if p.udp.index[port] == 0 {
		return 0
	}
	for _, list := range p.udp.at(dst, port) {
		for _, s := range list {
			if s.covers(dst) {
				families |= s.Methods & familiesUDP
			}
		}
	}
	return families
}

// trials returns how many keys a v1 knock at dst and port may have to be tried
// with.
func (p *Policy) trials(dst packet.Addr, port uint16) (cost trials) {
	for s := range p.takingV1(dst, port) {
		all, ofOne := s.numKeys()
		cost.scan += all
		cost.known += min(all, seenClients*ofOne)
	}
	return cost
}

// taking finds the service at dst that takes a knock found as x, for knocks that
// do not go to the service's own port.
func (p *Policy) taking(dst packet.Addr, x *expectation, family Families) *Service {
	return p.macs.find(dst, x.port, func(s *Service) bool { return s.takes(x, family) })
}

// takes tells whether a knock found as x is one for s.
func (s *Service) takes(x *expectation, family Families) bool {
	return x.port == s.MACPort && s.Methods&family != 0 && s.client(x.key.client.ID) != nil
}
