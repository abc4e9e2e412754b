// Package config turns a YAML file into a validated, immutable Config.
//
// A file is read whole and judged whole before anything acts on it. Nothing in it is ignored and no bad
// value is replaced by a default: an unknown key, a wrong type or a contradiction is an Error with the
// line it stands on and what to write instead, and all of them are reported at once. A key that is
// absent has the default of docs/wire-formats.md. What is legal and without effect is a warning.
//
// The package knows no other part of the gateway, except the names and limits of the wire formats; how a
// file is read, as against what it means, is internal/strictyaml.
package config

import (
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/knockgw/knockgw/internal/address"
)

// Config is one whole configuration. Whoever has one shares it with others: do not change it.
type Config struct {
	TUN      TUN
	Knock    Knock
	Clients  []Client  // in the file's order, and then those of ClientsDir
	Services []Service // in the file's order; at least one
	Limits   Limits
	Ban      Ban
	State    State
	Control  Control
	Metrics  Metrics
	Audit    Audit

	// ClientsDir is the directory with a file for each further client; absolute. Empty: there is none.
	ClientsDir string

	// Warnings are lines, as an Error's, about what is legal and probably not meant.
	Warnings []string

	inlineSecrets bool                // a secret stands in the file itself
	positions     map[string]Position // of the clients, by id
}

// TUN is the device and what is routed to it.
type TUN struct {
	Name   string           // at most 15 bytes
	MTU    int              // bytes of an IP packet
	Routes []netip.Prefix   // masked; they cover every service and no upstream
	Local  []netip.AddrPort // ports of the host's own addresses, TCP and UDP; Linux only
	Filter Filter
}

// Knock is what concerns the knocks of every service.
type Knock struct {
	UDPPort  uint16        // where UDP knocks are taken besides each service's own port number
	Window   time.Duration // how far a message's time may be from ours, either way
	Gateway  string        // who this gateway is in udp-v2 knocks, at most 255 bytes; its clients know it
	Slot     time.Duration // of a udp-v2 knock; whole seconds. tcp-syn's is the whole seconds of Window
	Sequence Sequence
}

// Sequence is what concerns knocks of several parts.
type Sequence struct {
	Length int           // parts
	Window time.Duration // from the first part to the last, UDP
	Slot   time.Duration // of a SYN sequence; whole seconds
	Legacy bool          // SYN sequences are taken in their legacy spelling too
}

// Service is one protected TCP port, of one address or of every address of a prefix.
type Service struct {
	Name           string
	Listen         netip.Prefix // masked; a single address has all its bits
	Port           uint16       // the one that clients dial
	MACPort        uint16       // the one in MACs and keys; differs from Port behind a NAT only
	Upstream       Upstream     // zero: accepted by the embedding program
	Address        string       // host:port that clients are told to dial; empty: that of Listen
	UpstreamDevice string       // the interface that upstream connections are bound to; Linux only
	Mode           Mode
	Visible        bool     // mode knock-auth: strangers' SYNs are answered
	Knock          []Method // families, no duplicates; nil in mode auth
	Grant          Grant
	// SessionRequired says that a UDP knock must carry a session id, in modes with authentication.
	SessionRequired bool
	Auth            Auth
	Idle            time.Duration // a flow without traffic in either direction ends after it
	DialTimeout     time.Duration // for reaching the upstream
}

// Upstream is where a service's flows go.
type Upstream struct {
	Host     string // a name or an address without brackets; empty when Original
	Port     uint16 // 0 when Original: the port that the client dialled
	Original bool   // the address that the client dialled
}

// IsZero reports whether there is no upstream.
func (u Upstream) IsZero() bool { return u == Upstream{} }

// Address is what to dial, host:port, for a flow to the dialled address.
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

// String is the spelling of the configuration file.
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

// Grant is what a knock earns.
type Grant struct {
	TTL  time.Duration // to begin a flow
	Uses int           // how many flows
}

// Auth is the authentication at the start of a TCP stream.
type Auth struct {
	Protocols []AuthProtocol // no duplicates
	Hint      Hint           // of envelope v2
	Buckets   []int          // of envelope v2, bytes, ascending, no duplicates
	Proof     bool           // clients that ask for a server proof get one
	Deadline  time.Duration  // from the completed handshake to the accepted authentication
}

// Accepts reports whether p is among the protocols.
func (a *Auth) Accepts(p AuthProtocol) bool { return slices.Contains(a.Protocols, p) }

// Limits are how much anybody may have at once. A source is an IPv4 address or an IPv6 /64.
type Limits struct {
	GrantsPerClient int // of a client without MaxGrants
	FlowsPerClient  int // of a client without MaxFlows
	GrantsPerSource int
	FlowsPerSource  int
	Flows           int // of everybody, those of strangers that still must authenticate included
	Knocks          int // that wait to be opened
}

// Ban is what becomes of a source whose authentications fail.
type Ban struct {
	After  int           // failures; 0: there are no bans
	Within time.Duration // of the first of them
	For    time.Duration
}

// State is what outlives the process.
type State struct {
	Dir string // absolute; empty: nothing does
}

// Control is the socket for the running gateway's commands.
type Control struct {
	Socket string // absolute; empty: none
}

// Metrics is where Prometheus finds its metrics.
type Metrics struct {
	Listen netip.AddrPort // not valid: nowhere
	Page   bool           // the status page is there too
}

// Audit is the record of who was let in, and of who was not.
type Audit struct {
	File     string // absolute; empty: none is kept
	MaxBytes int64  // of one file
	Keep     int    // files, besides the one that is written
}
