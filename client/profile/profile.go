// Package profile reads and writes client profiles. A profile contains what a
// client knows about one gateway: the client's id and secret, and how to knock
// for each service. It is a file that only its owner can read, or a URI to
// paste or to scan. With it, a program reaches a service by name:
//
//	dir, err := profile.DefaultDirectory()
//	endpoint, err := dir.Find("ssh")
//	dialer, err := endpoint.Dialer()
//	conn, err := dialer.DialContext(ctx, "tcp", endpoint.Address)
//
// [Profile.DialContext] does the same as the dialer of an http.Transport and
// similar types.
//
// Both forms of a profile contain the secret. Printing or logging a Profile
// shows only its name.
//
// # Compatibility
//
// The package is part of the module's API: from version 1.0.0 on, programs that
// use its exported names keep compiling and working within a major version.
package profile

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/protocol"
)

// The values of Service.Mode: how a client uses the service.
const (
	ModeAuth      = "auth"       // authenticate on the connection
	ModeKnock     = "knock"      // knock first
	ModeKnockAuth = "knock-auth" // knock first, then authenticate; the default
)

// The values of Profile.Server: what the gateway runs.
const (
	ServerKnockgw  = "knockgw" // the default
	ServerLibknock = "libknock"
)

// The values of Auth.Protocol: the format of the authentication.
const (
	AuthV1 = "v1" // tcp-auth-frame-v1
	AuthV2 = "v2" // tcp-auth-envelope-v2, the default
)

// libknockKnockDelay is the time that a libknock server needs between a knock
// and the authentication: it may refuse an authentication that follows within
// milliseconds (docs/wire-formats.md, libknock's gateways).
const libknockKnockDelay = 50 * time.Millisecond

// Profile is the identity of a client at one gateway, and the services there.
// In a Profile returned by Parse or ParseURI, all defaults are filled in. In
// one that a program constructs, the zero value of a field means its default.
type Profile struct {
	Name     string          // the local name of the gateway, with the syntax of Service.Name
	Client   string          // the client id, 1 to 65535 bytes of UTF-8 without NUL
	Secret   protocol.Secret // at least 16 bytes
	Gateway  string          // the gateway's name in udp-v2 knocks, at most 255 bytes
	Server   string          // ServerKnockgw or ServerLibknock
	Window   time.Duration   // maximum difference of the clocks, either way
	Services []Service       // 1 to 64, with different names
}

// Service is one service behind the gateway.
type Service struct {
	// Name is 1 to 64 ASCII letters, digits, '.', '_' and '-', and begins with
	// a letter or a digit. Names are compared without regard to case.
	Name string
	// Address is the host:port to dial. If the host is a prefix, the service is
	// available at every address in it.
	Address string
	Mode    string // ModeAuth, ModeKnock or ModeKnockAuth
	Method  string // the knock method, of package protocol; "" in ModeAuth
	// KnockPort is the UDP port of the knocks.
	KnockPort uint16
	// Port is the port in MACs; 0 means that of Address.
	Port     uint16
	Auth     Auth
	Slot     time.Duration // of tcp-syn and udp-v2; whole seconds
	Sequence client.Sequence
}

// Auth configures the authentication.
type Auth struct {
	Protocol string // AuthV1 or AuthV2
	Hint     string // for AuthV2: protocol.HintRoute or protocol.HintNone, as at the gateway
	Buckets  []int  // for AuthV2: the possible sizes in bytes
	Proof    bool   // the gateway must prove that it knows the secret
}

// String returns the profile's name, never its secret.
func (p Profile) String() string { return "profile " + p.Name }

// GoString is String.
func (p Profile) GoString() string { return p.String() }

// Format prints String for every verb.
func (p Profile) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, p.String()) }

// LogValue logs the name and the client id.
func (p Profile) LogValue() slog.Value {
	return slog.GroupValue(slog.String("profile", p.Name), slog.String("client", p.Client))
}
