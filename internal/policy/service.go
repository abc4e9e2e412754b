package policy

import (
	"net/netip"
	"time"

	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// A Mode says what a client must do to reach a service.
type Mode uint8

// The modes.
const (
	ModeAuth      Mode = iota // authenticate on the TCP connection; any host may connect
	ModeKnock                 // knock
	ModeKnockAuth             // knock, then authenticate as the client that knocked
)

// MethodSet is a set of knock methods. A packet-level gate cannot and need not
// tell a method from its passive spelling.
type MethodSet uint8

// The methods, and sets of them.
const (
	MethodUDP    MethodSet = 1 << iota // udp, udp-passive
	MethodUDPSeq                       // udp-seq, udp-passive-seq
	MethodSYN                          // tcp-syn
	MethodSYNSeq                       // tcp-syn-seq
	MethodUDPv2                        // udp-v2

	MethodsV1  = MethodUDP | MethodUDPSeq
	MethodsUDP = MethodsV1 | MethodUDPv2
	MethodsSYN = MethodSYN | MethodSYNSeq
)

// A Client is an identity that may use services. It is immutable once in a
// Policy.
type Client struct {
	ID      string
	Keys    []Key                  // of the same id; several while a secret is being changed
	Expires time.Time              // from then on the client is unknown; zero: never
	Hours   func(t time.Time) bool // when the client may begin a flow; nil: always
	// MaxGrants and MaxFlows bound what the client has at a time; 0: Limits'
	// defaults.
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

// ClientKey is a Key with its client.
type ClientKey struct {
	Client   *Client
	Identity *protocol.Client
	Until    time.Time
}

// Valid reports whether the key opens anything at now.
func (k *ClientKey) Valid(now time.Time) bool {
	return (k.Until.IsZero() || now.Before(k.Until)) && (k.Client.Expires.IsZero() || now.Before(k.Client.Expires))
}

// MayBegin reports whether the client may begin a flow at now.
func (c *Client) MayBegin(now time.Time) bool {
	return (c.Expires.IsZero() || now.Before(c.Expires)) && (c.Hours == nil || c.Hours(now))
}

// A Service is one protected TCP service. It is immutable once in a Policy.
type Service struct {
	Name    string
	Listen  netip.Prefix // the protected addresses; a single one is a prefix of full length
	Port    uint16       // the port that clients dial
	MACPort uint16       // the port in MACs and keys; equals Port unless a NAT changes it
	Mode    Mode
	Visible bool // ModeKnockAuth only: complete the TCP handshake with any host

	Methods         MethodSet
	SessionRequired bool          // a knock must carry a session id; ModeKnockAuth only
	GrantTTL        time.Duration // from the knock to the SYN
	GrantUses       int           // connections per knock
	AuthDeadline    time.Duration // how long a reservation may outlive its grant

	// Clients and Shared may use the service. Services that were given the same
	// slice share its index: where thousands of clients may use thousands of
	// services, give those in one slice, and the clients of a single service in
	// the other.
	Clients, Shared []*Client

	sets   []*clientSet // of Clients and Shared, but empty ones
	index  int          // in the policy's order
	subnet subnet       // Listen
}

// Open reports whether the service answers SYNs of any host.
func (s *Service) Open() bool { return s.Mode == ModeAuth || s.Visible }

// Authenticates reports whether the service's flows authenticate.
func (s *Service) Authenticates() bool { return s.Mode != ModeKnock }

// Index is the service's position in Policy.Services.
func (s *Service) Index() int { return s.index }

// covers reports whether dst is one of the service's addresses.
func (s *Service) covers(dst packet.Addr) bool { return s.subnet.contains(&dst) }

// Accepts reports whether s takes a knock that was made from t by method.
func (s *Service) Accepts(t *Template, method MethodSet) bool {
	return t.Port == s.MACPort && s.Methods&method != 0 && s.Client(t.Key.Client.ID) != nil
}

// SameEndpoint reports whether clients reach o where they reach s: then it is
// the same service with other properties.
func (s *Service) SameEndpoint(o *Service) bool {
	return s.Name == o.Name && s.Port == o.Port && s.Listen == o.Listen
}

// ClientOf returns the client of the service that has the key id; nil if there
// is none.
func (s *Service) ClientOf(id *protocol.Client) *Client {
	if k := s.KeyOf(id); k != nil {
		return k.Client
	}
	return nil
}

// KeyOf returns the key of a client of the service that equals id; nil if there
// is none.
func (s *Service) KeyOf(id *protocol.Client) *ClientKey {
	for _, k := range s.KeysOf(id.ID()) {
		if k.Identity == id || k.Identity.Equal(id) {
			return k
		}
	}
	return nil
}
