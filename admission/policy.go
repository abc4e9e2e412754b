package admission

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/knockgw/knockgw/protocol"
	"github.com/knockgw/knockgw/tun"
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
)

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

	Clients []*protocol.Client // who may use the service
}

// Open tells whether strangers' SYNs to the service are answered.
func (s *Service) Open() bool { return s.Mode == ModeAuth || s.Visible }

// Authenticates tells whether the service's flows authenticate.
func (s *Service) Authenticates() bool { return s.Mode != ModeKnock }

// PolicyOptions is what a Policy is made of.
type PolicyOptions struct {
	Services  []Service
	KnockPort uint16        // takes knocks besides each service's own number; 0 for none
	Window    time.Duration // how far a message's time may be from ours, either way
}

// A Policy says which services there are. It is immutable, so that the gate can
// swap one for another under running traffic.
type Policy struct {
	window   time.Duration
	services []*Service
	tcp      portTable // by the dialled port
	udp      portTable // by the port that takes knocks
}

// portTable finds the services of a port without hashing: an index by port
// into short lists, list 0 being empty.
type portTable struct {
	index [1 << 16]uint16
	lists [][]*Service
}

func (t *portTable) add(port uint16, s *Service) {
	if t.lists == nil {
		t.lists = [][]*Service{nil}
	}
	if t.index[port] == 0 {
		t.index[port] = uint16(len(t.lists)) // at most one list per port and port 0 has none
		t.lists = append(t.lists, nil)
	}
	i := t.index[port]
	t.lists[i] = append(t.lists[i], s)
}

func (t *portTable) at(port uint16) []*Service { return t.lists[t.index[port]] }

// NewPolicy checks o and builds the policy. It copies o.Services.
func NewPolicy(o PolicyOptions) (*Policy, error) {
	if o.Window <= 0 {
		return nil, errors.New("policy: the time window must be positive")
	}
	p := &Policy{window: o.Window}
	p.tcp.lists, p.udp.lists = [][]*Service{nil}, [][]*Service{nil}
	for i := range o.Services {
		s := o.Services[i]
		if s.Port == 0 || !s.Listen.IsValid() {
			return nil, fmt.Errorf("policy: service %q has no address and port", s.Name)
		}
		if s.MACPort == 0 {
			s.MACPort = s.Port
		}
		for _, other := range p.services {
			if other.Name == s.Name {
				return nil, fmt.Errorf("policy: two services are called %q", s.Name)
			}
			if other.Port == s.Port && other.Listen.Overlaps(s.Listen) {
				return nil, fmt.Errorf("policy: services %q and %q overlap", other.Name, s.Name)
			}
		}
		p.services = append(p.services, &s)
		p.tcp.add(s.Port, &s)
		if s.Mode == ModeAuth || s.Methods&(FamilyUDP|FamilyUDPSeq) == 0 {
			continue
		}
		p.udp.add(s.Port, &s)
		if o.KnockPort != 0 && o.KnockPort != s.Port {
			p.udp.add(o.KnockPort, &s)
		}
	}
	return p, nil
}

// Services returns the policy's services, in the order given. The caller must not change them.
func (p *Policy) Services() []*Service { return p.services }

// Service returns the service at a protected address and port, nil if there is none.
func (p *Policy) Service(a netip.AddrPort) *Service {
	return p.service(tun.AddrFrom(a.Addr()), a.Port())
}

func (p *Policy) service(dst tun.Addr, port uint16) *Service {
	for _, s := range p.tcp.at(port) {
		if s.covers(dst) {
			return s
		}
	}
	return nil
}

func (s *Service) covers(dst tun.Addr) bool { return s.Listen.Contains(dst.Netip()) }

// knockable tells whether any service takes knocks at dst and port.
func (p *Policy) knockable(dst tun.Addr, port uint16) bool {
	for _, s := range p.udp.at(port) {
		if s.covers(dst) {
			return true
		}
	}
	return false
}
