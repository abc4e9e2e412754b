// Package config parses a gateway's YAML file into a validated, immutable
// [Config].
//
// A file is validated as a whole before any of it is used. No key is ignored,
// and no invalid value is replaced by a default: an unknown key, a wrong type
// or a contradiction is an [Error] with its line and what to write instead. All
// errors are reported at once. A missing key has the default of
// docs/configuration.md. A key that is valid but has no effect is a warning.
//
// The package depends on no other part of the gateway, except for the names and
// limits of the wire formats.
//
// # Compatibility
//
// The package is part of the module's API: from version 1.0.0 on, programs that
// use its exported names keep compiling and working within a major version.
package config

import (
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/knockgw/knockgw/internal/address"
)

// Config is a complete configuration. It is shared and must not be modified.
type Config struct {
	TUN      TUN
	Knock    Knock
	Clients  []Client  // in the file's order, followed by those of ClientsDir
	Services []Service // in the file's order; at least one
	Limits   Limits
	Ban      Ban
	State    State
	Control  Control
	Metrics  Metrics
	Audit    Audit

	// ClientsDir is the absolute path of the directory of client files; empty:
	// none.
	ClientsDir string

	// Warnings are lines, in the format of an Error, about settings that are
	// valid but probably not intended.
	Warnings []string

	inlineSecrets bool                // the file itself contains a secret
	positions     map[string]Position // of the clients, by id
}

// TUN configures the device and the routes to it.
type TUN struct {
	Name   string           // at most 15 bytes
	MTU    int              // maximum size of an IP packet, in bytes
	Routes []netip.Prefix   // masked; they cover every service and no upstream
	Local  []netip.AddrPort // ports of the host's own addresses, TCP and UDP; Linux only
	Filter Filter
}

// Knock configures the knocks of all services.
type Knock struct {
	UDPPort  uint16        // of UDP knocks, in addition to each service's own port number
	Window   time.Duration // maximum clock difference of a message, either way
	Gateway  string        // this gateway's name in udp-v2 knocks, at most 255 bytes
	Slot     time.Duration // of a udp-v2 knock; whole seconds. tcp-syn's is the whole seconds of Window
	Sequence Sequence
}

// Sequence configures knocks of several parts.
type Sequence struct {
	Length int           // number of parts
	Window time.Duration // from the first part to the last, UDP
	Slot   time.Duration // of a SYN sequence; whole seconds
	Legacy bool          // SYN sequences are also accepted in their legacy format
}

// Service is a protected TCP port, at one address or at every address of a
// prefix.
type Service struct {
	Name           string
	Listen         netip.Prefix // masked; a single address has all its bits
	Port           uint16       // the port that clients dial
	MACPort        uint16       // the port in MACs and keys; differs from Port only behind a NAT
	Upstream       Upstream     // zero: the embedding program accepts the connections
	Address        string       // host:port that clients are told to dial; empty: that of Listen
	UpstreamDevice string       // the interface that upstream connections are bound to; Linux only
	Mode           Mode
	Visible        bool     // mode knock-auth: the SYNs of unauthorized hosts are answered
	Knock          []Method // method families without duplicates; nil in mode auth
	Grant          Grant
	// SessionRequired requires a session id in UDP knocks, in modes with
	// authentication.
	SessionRequired bool
	Auth            Auth
	Idle            time.Duration // how long a flow may have no traffic in either direction
	DialTimeout     time.Duration // for connecting to the upstream
}

// Upstream is the destination of a service's flows.
type Upstream struct {
	Host     string // a name or an address without brackets; empty if Original
	Port     uint16 // 0 if Original: the port that the client dialled
	Original bool   // keep the address that the client dialled
}

// IsZero reports whether there is no upstream.
func (u Upstream) IsZero() bool { return u == Upstream{} }

// Address returns the host:port to dial for a flow to the address dialled.
func (u Upstream) Address(dialled netip.AddrPort) string {
	if !u.Original {
		return address.Join(u.Host, u.Port)
	}
	port := u.Port
	if port == 0 {
		port = dialled.Port()
	}
	return netip.AddrPortFrom(dialled.Addr().Unmap(), port).String()
}

// String returns the upstream as in the configuration file.
func (u Upstream) String() string {
	switch {
	case u.IsZero():
		return ""
	case u.Original && u.Port == 0:
		return originalPrefix
	case u.Original:
		return originalPrefix + strconv.Itoa(int(u.Port))
	default:
		return address.Join(u.Host, u.Port)
	}
}

// Grant is what a valid knock permits.
type Grant struct {
	TTL  time.Duration // time to start a flow
	Uses int           // number of flows
}

// Auth configures the authentication at the start of a TCP stream.
type Auth struct {
	Protocols []AuthProtocol // without duplicates
	Hint      Hint           // for envelope v2
	Buckets   []int          // for envelope v2: sizes in bytes, ascending, without duplicates
	Proof     bool           // send a server proof to clients that request it
	Deadline  time.Duration  // from the TCP handshake to the accepted authentication
}

// Accepts reports whether p is among the protocols.
func (a *Auth) Accepts(p AuthProtocol) bool { return slices.Contains(a.Protocols, p) }

// Limits are limits of concurrent grants, flows and knocks. A source is an IPv4
// address or an IPv6 /64.
type Limits struct {
	GrantsPerClient int // for a client without MaxGrants
	FlowsPerClient  int // for a client without MaxFlows
	GrantsPerSource int
	FlowsPerSource  int
	Flows           int // in total, including those that have not authenticated yet
	Knocks          int // in the queue
}

// Ban configures the ban of sources whose authentications fail.
type Ban struct {
	After  int           // number of failures; 0: no bans
	Within time.Duration // of the first failure
	For    time.Duration
}

// State configures the state that survives a restart.
type State struct {
	Dir string // absolute; empty: none
}

// Control configures the control socket of the running gateway.
type Control struct {
	Socket string // absolute; empty: none
}

// Metrics configures the Prometheus metrics.
type Metrics struct {
	Listen netip.AddrPort // not valid: no metrics
	Page   bool           // also serve the status page
}

// Audit configures the log of accepted and refused access.
type Audit struct {
	File     string // absolute; empty: no audit log
	MaxBytes int64  // size of a file
	Keep     int    // number of rotated files
}
