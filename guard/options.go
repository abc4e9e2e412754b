package guard

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/protocol"
)

// Defaults of the options: those of the gateway.
const (
	DefaultGrantTTL = 15 * time.Second // from the knock to the connection
	DefaultWindow   = auth.DefaultWindow
)

// ErrOptions is what the errors about options wrap.
var ErrOptions = errors.New("guard: invalid options")

// Options is what a Guard is made of.
type Options struct {
	// Services are what is guarded. Required.
	Services []Service
	// Secrets are the clients, those of other Servers of the program too. Required. While Run runs, a
	// change is in force at once: a secret that is gone ends its client's grants and connections. Those
	// that are added beyond what a service with protocol.HintNone can try (auth.Server.MaxClients) are
	// not its clients until there is room; New refuses them.
	Secrets *auth.Secrets
	// Knocks are the UDP sockets on which knocks are taken: all of them, whatever their ports, for all
	// services. Required but where every service is of ModeAuth. The Guard owns them from Run on.
	Knocks []net.PacketConn

	// Store remembers the knocks and authentications that were accepted. Default: memory, so that a
	// captured one works again after a restart, within the window; see replay.OpenFileStore. The
	// Guard does not close it.
	Store replay.Store
	// Window is how far a message's time may be from ours; default DefaultWindow.
	Window time.Duration
	// Sequence is what knocks of udp-seq are like. Zero fields take the defaults.
	Sequence policy.Sequence
	// Slot is the length of udp-v2's time slots; default admission.DefaultSlot.
	Slot time.Duration
	// Gateway is our name in udp-v2 knocks, which are for no other then.
	Gateway string
	// Limits bound what is kept; Ban shuts out who keeps failing to authenticate.
	Limits admission.Limits
	Ban    admission.Ban

	// Client, if not nil, is shown each client whenever a policy is made of Secrets: it may set when
	// the client expires, its hours and its limits.
	Client func(c *policy.Client)
	// Knocked, if not nil, is told of every knock that was decided, strangers' too, by one goroutine,
	// which decides none meanwhile.
	Knocked func(admission.KnockEvent)
	// Now is the wall clock that messages are judged by; default time.Now.
	Now func() time.Time
	// Log gets events; default: discard. No secret is ever in one.
	Log *slog.Logger
}

// Service is one guarded service.
type Service struct {
	Name string
	// Port is the protected port: the one that clients dial, as their MACs say it. The listener's own
	// may differ, as in a container. No two services of a Guard have the same.
	Port uint16
	Mode Mode
	// Methods are the knock methods taken, by their names in package protocol; default udp. The passive
	// spellings come with the plain ones. SYN knocks are read from packets: they take package gateway.
	Methods []string
	// Clients are the ids of those who may use the service; nil: all in Secrets.
	Clients []string
	// GrantTTL is how long after its knock a client may connect; default DefaultGrantTTL.
	GrantTTL time.Duration
	// GrantUses is how many connections one knock is good for; default 1.
	GrantUses int
	// NoSession lets a knock be without a session id in ModeKnockAuth. The authentication then need not
	// be of the program that knocked, only of its client.
	NoSession bool
	// Auth are the options of the authentication; not for ModeKnock.
	Auth Auth
	// Authorize, if not nil, is asked about a verified client, last of all but the grant and the
	// replay store: what it refuses has used up neither. Not for ModeKnock.
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

// families are the methods of s, for the gate.
func (s *Service) families() (policy.MethodSet, error) {
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
	var f policy.MethodSet
	for _, name := range names {
		method, err := protocol.ParseMethod(name)
		if err != nil {
			return 0, fmt.Errorf("%w: service %q: knock method %q: %w", ErrOptions, s.Name, name, err)
		}
		switch protocol.MethodFamily(method) {
		case protocol.MethodUDP:
			f |= policy.MethodUDP
		case protocol.MethodUDPSeq:
			f |= policy.MethodUDPSeq
		case protocol.MethodUDPv2:
			f |= policy.MethodUDPv2
		case protocol.MethodTCPSYN, protocol.MethodTCPSYNSeq:
			return 0, fmt.Errorf("%w: service %q: a %s knock is read from packets, which a listener never sees; use %s, %s or %s, or package gateway",
				ErrOptions, s.Name, method, protocol.MethodUDP, protocol.MethodUDPSeq, protocol.MethodUDPv2)
		default:
			return 0, fmt.Errorf("%w: service %q: %s is no knock method", ErrOptions, s.Name, method)
		}
	}
	if f == 0 {
		return 0, fmt.Errorf("%w: service %q: name at least one method in Methods, or leave it nil", ErrOptions, s.Name)
	}
	return f, nil
}

// check says what is wrong with o but for what the gate itself checks.
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
			return fmt.Errorf("%w: service %q needs knocks: give a UDP socket in Knocks", ErrOptions, s.Name)
		case s.Mode == ModeKnock && s.Authorize != nil:
			return fmt.Errorf("%w: service %q does not authenticate: Authorize would never be asked", ErrOptions, s.Name)
		}
		ports[s.Port] = s.Name
	}
	return nil
}
