package guard

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/internal/policy"
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

// Defaults of the options, which are those of the gateway.
const (
	DefaultGrantTTL = protocol.DefaultGrantTTL // 15 s from the knock to the connection
	DefaultWindow   = protocol.DefaultWindow   // 30 s
	DefaultSlot     = protocol.DefaultSlot     // 30 s
)

// ErrOptions is wrapped by all errors about invalid options.
var ErrOptions = errors.New("guard: invalid options")

// Options configure a Guard.
type Options struct {
	// Services are the services to guard. Required.
	Services []Service
	// Secrets are the clients. Required. The same Secrets may serve auth.Servers
	// of the program. While Run runs, a change takes effect at once: removing a
	// secret ends its client's grants and connections. Secrets added beyond what
	// a service with protocol.HintNone can try (auth.Server.MaxClients) are not
	// clients of that service until others are removed; New refuses them.
	Secrets *auth.Secrets
	// Knocks are the UDP sockets for knocks. Each takes the knocks of all
	// services, whatever its port. Required unless all services are of ModeAuth.
	// Run takes ownership of them.
	Knocks []net.PacketConn

	// Replay remembers accepted knocks and authentications. By default that is
	// memory: after a restart, a captured message works again within the window.
	// A FileReplay survives restarts. The Guard does not close it. In another
	// auth.Replay, the nonces of knocks are claimed with one byte before them,
	// so that they differ from the nonces of connections.
	Replay auth.Replay
	// Window is how far a message's time may be from ours; default
	// DefaultWindow.
	Window time.Duration
	// Sequence describes knocks of several parts. Zero fields take the defaults.
	Sequence Sequence
	// Slot is the length of the time slots of udp-v2; default DefaultSlot.
	Slot time.Duration
	// Gateway is the name of this gateway in udp-v2 knocks. Knocks for another
	// name are refused.
	Gateway string
	// Limits bound the memory that clients and other hosts can use.
	Limits Limits
	// Ban is the policy against sources that keep failing to authenticate. The
	// zero Ban bans none.
	Ban Ban

	// Client, if not nil, returns the options of a client. It is called for each
	// client by New and after each change of Secrets.
	Client func(id string) ClientOptions
	// Knocked, if not nil, is called with every knock that was decided, those of
	// unauthorized hosts included. The calls come from one goroutine, which
	// decides no knock meanwhile.
	Knocked func(KnockEvent)
	// Now is the wall clock that messages are compared with; default time.Now.
	Now func() time.Time
	// Log receives events; default: discard. No secret is ever logged.
	Log *slog.Logger
}

// Service is a guarded service.
type Service struct {
	Name string
	// Port is the protected port: the one that clients dial, which is part of
	// their MACs. The listener's own port may differ, as in a container. Each
	// service of a Guard needs its own.
	Port uint16
	Mode Mode
	// Methods are the accepted knock methods, by their names in package
	// protocol; default udp. A method includes its passive spelling. SYN knocks
	// can only be read from packets and need package gateway.
	Methods []string
	// Clients are the IDs of the clients that may use the service; nil: all
	// clients in Secrets.
	Clients []string
	// GrantTTL is how long after its knock a client may connect; default
	// DefaultGrantTTL.
	GrantTTL time.Duration
	// GrantUses is the number of connections per knock; default 1.
	GrantUses int
	// NoSession accepts knocks without a session ID in ModeKnockAuth. The
	// authentication then may come from any program of the same client.
	NoSession bool
	// Auth are the options of the authentication; not for ModeKnock.
	Auth Auth
	// Authorize, if not nil, is called with a verified client, before its grant
	// is used and its message claimed: a client that is refused here loses
	// neither. Not for ModeKnock.
	Authorize func(auth.Peer) error
}

// Auth are the options of a service's authentication, as in auth.Server.
type Auth struct {
	Protocols auth.Protocol
	Hint      protocol.HintMode
	Buckets   []int
	Proof     bool
	Deadline  time.Duration
	MaxTrials int
}

// Sequence describes knocks of several parts (udp-seq). Zero fields take the
// defaults of the gateway: 3 parts within 5 s.
type Sequence struct {
	Length int           // parts
	Window time.Duration // from the first part to the last
}

// Limits bound what a Guard keeps. Zero fields take the defaults of the gateway.
// A source is an IPv4 address or an IPv6 /64.
type Limits struct {
	Flows           int // connections, including closing ones
	HalfOpen        int // unauthenticated connections per service
	Grants          int
	GrantsPerSource int
	GrantsPerClient int // for clients without a limit of their own
	FlowsPerClient  int // for clients without a limit of their own
	FlowsPerSource  int
	Knocks          int // knocks waiting to be decided
	KnocksPerSource int
}

// Ban says when a source that keeps failing to authenticate is banned from
// services of ModeAuth and ModeKnockAuth, and for how long. A ban blocks neither
// knocks nor connections with a grant.
type Ban struct {
	After  int           // failures; 0: never ban
	Within time.Duration // of each other
	For    time.Duration
}

// ClientOptions restrict a client.
type ClientOptions struct {
	Expires time.Time              // from then on the client is unknown; zero: never
	Hours   func(t time.Time) bool // when the client may connect; nil: always
	// MaxGrants and MaxFlows bound the client's grants and connections; 0: as in
	// Limits.
	MaxGrants, MaxFlows int
}

// methods returns the knock methods of s.
func (s *Service) methods() (policy.MethodSet, error) {
	names := s.Methods
	if s.Mode == ModeAuth {
		if len(names) > 0 {
			return 0, fmt.Errorf("%w: service %q takes no knocks in its mode: leave Methods empty", ErrOptions, s.Name)
		}
		return 0, nil
	}
	if names == nil {
		names = []string{protocol.MethodUDP}
	}

	var set policy.MethodSet
	for _, name := range names {
		method, err := protocol.ParseMethod(name)
		if err != nil {
			return 0, fmt.Errorf("%w: service %q: knock method %q: %w", ErrOptions, s.Name, name, err)
		}
		switch protocol.MethodFamily(method) {
		case protocol.MethodUDP:
			set |= policy.MethodUDP
		case protocol.MethodUDPSeq:
			set |= policy.MethodUDPSeq
		case protocol.MethodUDPv2:
			set |= policy.MethodUDPv2
		case protocol.MethodTCPSYN, protocol.MethodTCPSYNSeq:
			return 0, fmt.Errorf("%w: service %q: a %s knock is read from packets, which a listener never sees; use %s, %s or %s, or package gateway",
				ErrOptions, s.Name, method, protocol.MethodUDP, protocol.MethodUDPSeq, protocol.MethodUDPv2)
		default:
			return 0, fmt.Errorf("%w: service %q: %s is no knock method", ErrOptions, s.Name, method)
		}
	}
	if set == 0 {
		return 0, fmt.Errorf("%w: service %q: name at least one method in Methods, or leave it nil", ErrOptions, s.Name)
	}
	return set, nil
}

// check returns an error for options that are invalid, except for those that
// package policy checks.
func (o *Options) check() error {
	switch {
	case len(o.Services) == 0:
		return fmt.Errorf("%w: there are no Services", ErrOptions)
	case o.Secrets == nil:
		return fmt.Errorf("%w: set Secrets, empty if need be", ErrOptions)
	case o.Window < 0 || o.Slot < 0 || o.Slot%time.Second != 0:
		return fmt.Errorf("%w: Window and Slot must not be negative, and Slot is in whole seconds", ErrOptions)
	}

	ports := make(map[uint16]string)
	for i := range o.Services {
		s := &o.Services[i]
		switch {
		case s.Port == 0:
			return fmt.Errorf("%w: service %q: set Port to the protected port", ErrOptions, s.Name)
		case ports[s.Port] != "":
			return fmt.Errorf("%w: services %q and %q have one port, %d: a knock names its service by the port", ErrOptions, ports[s.Port], s.Name, s.Port)
		case s.Mode > ModeKnockAuth:
			return fmt.Errorf("%w: service %q: there is no mode %d", ErrOptions, s.Name, s.Mode)
		case s.GrantTTL < 0 || s.GrantUses < 0:
			return fmt.Errorf("%w: service %q: GrantTTL and GrantUses must not be negative", ErrOptions, s.Name)
		case s.Mode != ModeAuth && len(o.Knocks) == 0:
			return fmt.Errorf("%w: service %q needs knocks: set Knocks to a UDP socket", ErrOptions, s.Name)
		case s.Mode == ModeKnock && s.Authorize != nil:
			return fmt.Errorf("%w: service %q does not authenticate: Authorize would never be called", ErrOptions, s.Name)
		}
		ports[s.Port] = s.Name
	}
	return nil
}
