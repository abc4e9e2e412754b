// Package profile is what a client knows about one gateway: who it is there, its secret, and how to knock
// for each service. A profile is a file that its owner alone can read, or a URI to paste or to scan; with
// it, a service is reached by its name:
//
//	dir, err := profile.DefaultDirectory()
//	door, err := dir.Find("ssh")
//	dialer, err := door.Dialer()
//	conn, err := dialer.DialContext(ctx, "tcp", door.Address)
//
// or, as the dialer of net/http and whatever else takes one, by [Profile.DialContext].
//
// Both spellings of a profile have the secret in them. Nothing else here does: what prints or logs a
// Profile shows its name.
package profile

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/protocol"
)

// The values of Service.Mode: what a client must do to use the service.
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

// libknockKnockDelay is what a libknock server needs between a knock and the authentication: it may refuse one that
// comes within milliseconds. (What a client must know about a libknock server.)
const libknockKnockDelay = 50 * time.Millisecond

// Profile is one client at one gateway. What Parse and ParseURI return is complete: every default is in
// its place. In one that a program fills in itself, the zero value of a field stands for its default.
type Profile struct {
	Name     string          // what it is called here: a name, as a service's
	Client   string          // the client id, 1 to 65535 bytes of UTF-8 without NUL
	Secret   protocol.Secret // at least 16 bytes
	Gateway  string          // who the gateway is in udp-v2 knocks, at most 255 bytes
	Server   string          // ServerKnockgw or ServerLibknock
	Window   time.Duration   // how far the clocks may differ, either way
	Services []Service       // 1 to 64, of different names
}

// Service is one service behind the gateway.
type Service struct {
	// Name is 1 to 64 letters, digits, '.', '_' and '-' of ASCII, and begins with a letter or a digit. Case
	// tells no two services of a profile apart.
	Name string
	// Address is what to dial, host:port. With a prefix for the host the service is any address in it.
	Address string
	Mode    string // ModeAuth, ModeKnock or ModeKnockAuth
	Method  string // how to knock: a method of package protocol; none in ModeAuth
	// KnockPort is the UDP port that takes the knocks.
	KnockPort uint16
	// Port is the port in MACs, where it is not that of Address; 0: it is.
	Port     uint16
	Auth     Auth
	Slot     time.Duration // of tcp-syn and udp-v2; whole seconds
	Sequence client.Sequence
}

// Auth is how to authenticate.
type Auth struct {
	Protocol string // AuthV1 or AuthV2
	Hint     string // of AuthV2: protocol.HintRoute or protocol.HintNone, the gateway's
	Buckets  []int  // of AuthV2: the sizes to choose from, bytes
	Proof    bool   // the gateway must prove that it knows the secret too
}

// String is the profile's name, marked as such. It never has the secret in it.
func (p Profile) String() string { return "profile " + p.Name }

// GoString is String.
func (p Profile) GoString() string { return p.String() }

// Format prints String under every verb.
func (p Profile) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, p.String()) }

// LogValue logs the name and the client id.
func (p Profile) LogValue() slog.Value {
	return slog.GroupValue(slog.String("profile", p.Name), slog.String("client", p.Client))
}
