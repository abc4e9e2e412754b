package policy

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"time"

	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// Options configures a Policy.
type Options struct {
	Services  []Service
	KnockPort uint16        // takes knocks besides each service's own port; 0 for none
	Window    time.Duration // how far a message's time may be from ours, either way; also the length of tcp-syn's slots
	Sequence  Sequence
	Slot      time.Duration // of udp-v2; default DefaultSlot
	Gateway   string        // this gateway's identity in udp-v2 knocks
	// After is the policy that this one will replace, nil for none. Where a
	// client has the same key in both, the identity is shared: sequences under
	// way and accepted knocks are remembered by it.
	After *Policy
}

// Sequence describes knocks of several parts. Zero fields take the defaults.
type Sequence struct {
	Length int           // parts; a SYN sequence has MaxSYNSequence at most
	Window time.Duration // from the first part of a UDP sequence to the last
	Slot   time.Duration // of a SYN sequence, in whole seconds
	Legacy bool          // take SYN sequences in the legacy spelling too
}

// Defaults. (docs/wire-formats.md, Conventions.)
const (
	DefaultSlot           = protocol.DefaultSlot
	DefaultSequenceLength = protocol.DefaultSequenceLength
	DefaultSequenceWindow = protocol.DefaultSequenceWindow
)

// A Policy says which services there are and which clients may use them. It is
// immutable, so that the gate can swap one for another under running traffic.
type Policy struct {
	window         time.Duration
	slot           time.Duration
	sequence       Sequence
	gateway        string
	services       []*Service
	knockPort      uint16
	tcp            portTable // by the dialed port
	udp            portTable // by the port that takes knocks
	macs           portTable // by the port in MACs
	legacy         bool      // SYNs to any port of a protected address may be parts of sequences
	templates      []Template
	numPrecomputed int // knocks of all templates, in the slots that are kept
	holders        map[*Client]*Holder
	limited        map[string]*Client // those with limits of their own, by id
	clients        map[string]*Holder // one for each id
	numKeys        int                // of those
}

// New checks o and builds the policy. It copies o.Services, and keeps only
// identities of o.After.
func New(o Options) (*Policy, error) {
	if o.Window <= 0 {
		return nil, errors.New("policy: the time window must be positive")
	}
	p := &Policy{window: o.Window, slot: o.Slot, sequence: o.Sequence, gateway: o.Gateway, knockPort: o.KnockPort}
	p.setDefaults()
	if n := p.sequence.Length; n < protocol.MinSequence || n > protocol.MaxSequence {
		return nil, fmt.Errorf("policy: a sequence of %d parts; it has %d to %d", n, protocol.MinSequence, protocol.MaxSequence)
	}

	p.tcp, p.udp, p.macs = newPortTable(), newPortTable(), newPortTable()
	sets := newClientSets(o.After.identities())
	names := make(map[string]bool, len(o.Services))
	for i := range o.Services {
		s := o.Services[i]
		if err := p.prepare(&s); err != nil {
			return nil, err
		}
		if names[s.Name] {
			return nil, fmt.Errorf("policy: two services are called %q", s.Name)
		}
		names[s.Name] = true

		// The service may have come out of another policy.
		s.index, s.sets, s.subnet = i, nil, newSubnet(s.Listen)
		for _, clients := range [][]*Client{s.Clients, s.Shared} {
			if set := sets.of(clients); set != nil && !slices.Contains(s.sets, set) {
				s.sets = append(s.sets, set)
			}
		}
		p.add(&s)
	}

	p.indexClients(sets.holders)
	if err := p.checkOverlaps(); err != nil {
		return nil, err
	}
	if err := p.addTemplates(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Policy) setDefaults() {
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

// prepare checks s and completes it.
func (p *Policy) prepare(s *Service) error {
	if s.Port == 0 || !s.Listen.IsValid() {
		return fmt.Errorf("policy: service %q has no address and port", s.Name)
	}
	if s.MACPort == 0 {
		s.MACPort = s.Port
	}
	if s.Mode == ModeAuth {
		s.Methods = 0
	}
	if s.Methods&MethodSYNSeq != 0 && p.sequence.Length > protocol.MaxSYNSequence {
		return fmt.Errorf("policy: service %q takes SYN sequences, which have at most %d parts", s.Name, protocol.MaxSYNSequence)
	}
	if s.Methods&MethodUDPv2 != 0 && len(p.gateway) > protocol.MaxGateway {
		return fmt.Errorf("policy: service %q takes udp-v2, where the gateway's identity has at most %d bytes", s.Name, protocol.MaxGateway)
	}
	return nil
}

// add appends s to the services and to the tables of ports.
func (p *Policy) add(s *Service) {
	p.services = append(p.services, s)
	p.tcp.add(s.Port, s)
	p.macs.add(s.MACPort, s)
	p.legacy = p.legacy || p.sequence.Legacy && s.Methods&MethodSYNSeq != 0
	if s.Methods&MethodsUDP == 0 {
		return
	}
	p.udp.add(s.Port, s)
	if p.knockPort != 0 && p.knockPort != s.Port {
		p.udp.add(p.knockPort, s)
	}
}

// indexClients indexes the clients of all services by id.
func (p *Policy) indexClients(holders map[*Client]*Holder) {
	p.holders, p.limited, p.clients = holders, make(map[string]*Client), make(map[string]*Holder)
	for c, h := range p.holders {
		if p.clients[c.ID] == nil {
			p.clients[c.ID] = h
			p.numKeys += len(h.Keys)
		}
		if c.MaxGrants != 0 || c.MaxFlows != 0 {
			p.limited[c.ID] = c
		}
	}
}

// checkOverlaps returns an error where two services have an address and port in
// common. It compares the services of each port in the order of their prefixes,
// where one that contains others comes right before them.
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

// Window is how far a message's time may be from ours, either way. It is also
// the length of tcp-syn's slots.
func (p *Policy) Window() time.Duration { return p.window }

// Slot is the length of udp-v2's slots.
func (p *Policy) Slot() time.Duration { return p.slot }

// Sequence describes knocks of several parts.
func (p *Policy) Sequence() Sequence { return p.sequence }

// Gateway is this gateway's identity in udp-v2 knocks.
func (p *Policy) Gateway() string { return p.gateway }

// Services returns the policy's services, in the order given. The caller must
// not change them.
func (p *Policy) Services() []*Service { return p.services }

// Templates returns what knocks are computed from ahead of time. The caller
// must not change them.
func (p *Policy) Templates() []Template { return p.templates }

// NumPrecomputed is how many knocks are computed ahead at a time: of all
// clients, in all the slots that are kept.
func (p *Policy) NumPrecomputed() int { return p.numPrecomputed }

// NumKeys is how many keys all clients have.
func (p *Policy) NumKeys() int { return p.numKeys }

// KnockPort is the port that takes knocks besides each service's own; 0 for
// none.
func (p *Policy) KnockPort() uint16 { return p.knockPort }

// Legacy reports whether SYNs to any port of a protected address may be parts of
// knocks.
func (p *Policy) Legacy() bool { return p.legacy }

// Service returns the service at a protected address and port, nil if there is
// none.
func (p *Policy) Service(a netip.AddrPort) *Service {
	return p.Lookup(packet.AddrFrom(a.Addr()), a.Port())
}

// Lookup is Service for the addresses of packets.
func (p *Policy) Lookup(dst packet.Addr, port uint16) *Service { return p.tcp.service(dst, port) }

// Find returns the first service at a protected address and port that fits; nil
// if there is none.
func (p *Policy) Find(dst packet.Addr, port uint16, fits func(*Service) bool) *Service {
	return p.tcp.find(dst, port, fits)
}

// Has reports whether s is a service of this very policy.
func (p *Policy) Has(s *Service) bool {
	return s.index < len(p.services) && p.services[s.index] == s
}

// MethodsAt returns the methods of the datagrams that are taken at dst and port.
func (p *Policy) MethodsAt(dst packet.Addr, port uint16) (methods MethodSet) {
	if p.udp.index[port] == 0 {
		return 0
	}
	for _, list := range p.udp.at(dst, port) {
		for _, s := range list {
			if s.covers(dst) {
				methods |= s.Methods & MethodsUDP
			}
		}
	}
	return methods
}

// ServicesV1 returns the services that a v1 datagram to an address and port may
// be for.
func (p *Policy) ServicesV1(dst packet.Addr, port uint16) iter.Seq[*Service] {
	return func(yield func(*Service) bool) {
		for _, list := range p.udp.at(dst, port) {
			for _, s := range list {
				if s.Methods&MethodsV1 != 0 && s.covers(dst) && !yield(s) {
					return
				}
			}
		}
	}
}

// A TrialCost is how many keys a v1 knock may have to be tried with: all, or
// those of the clients of a known source.
type TrialCost struct{ All, Known int }

// TrialCost returns how many keys a v1 knock at dst and port may have to be
// tried with, where up to known clients of a known source are tried.
func (p *Policy) TrialCost(dst packet.Addr, port uint16, known int) (cost TrialCost) {
	for s := range p.ServicesV1(dst, port) {
		all, ofOne := s.NumKeys()
		cost.All += all
		cost.Known += min(all, known*ofOne)
	}
	return cost
}

// ServiceV2 returns the service that takes a udp-v2 datagram to dst and port of
// the client and port of t. Where there is none that the client may use,
// forbidden says that s takes such datagrams of other clients.
func (p *Policy) ServiceV2(dst packet.Addr, port uint16, t *Template) (s *Service, forbidden bool) {
	s = p.udp.find(dst, port, func(s *Service) bool { return s.Accepts(t, MethodUDPv2) })
	if s != nil {
		return s, false
	}
	s = p.udp.find(dst, port, func(s *Service) bool { return s.MACPort == t.Port && s.Methods&MethodUDPv2 != 0 })
	return s, s != nil
}

// ServiceFor returns the service at dst that takes a knock made from t, for
// knocks that do not go to the service's own port.
func (p *Policy) ServiceFor(dst packet.Addr, t *Template, method MethodSet) *Service {
	return p.macs.find(dst, t.Port, func(s *Service) bool { return s.Accepts(t, method) })
}

// Unauthorized returns the clients that may not use a service: those of ids, or
// all.
func (p *Policy) Unauthorized(svc *Service, ids []string, all bool) iter.Seq[*Holder] {
	return func(yield func(*Holder) bool) {
		if !all {
			for _, id := range ids {
				if h := p.clients[id]; h != nil && svc.Client(id) == nil && !yield(h) {
					return
				}
			}
			return
		}
		for id, h := range p.clients {
			if svc.Client(id) == nil && !yield(h) {
				return
			}
		}
	}
}

// LimitsOf returns a client's MaxGrants and MaxFlows, 0 where it has none of its
// own.
func (p *Policy) LimitsOf(id string) (grants, flows int) {
	if c := p.limited[id]; c != nil {
		return c.MaxGrants, c.MaxFlows
	}
	return 0, 0
}
