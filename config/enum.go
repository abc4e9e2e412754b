package config

import "github.com/knockgw/knockgw/protocol"

// Mode is how a client must identify itself to use a service.
type Mode string

// The modes. The file may also use libknock's names for them.
const (
	ModeAuth      Mode = "auth"       // authenticate on the connection, which any host can open
	ModeKnock     Mode = "knock"      // knock first
	ModeKnockAuth Mode = "knock-auth" // knock first, then authenticate
)

// Knocks reports whether the mode requires a knock.
func (m Mode) Knocks() bool { return m != ModeAuth }

// Authenticates reports whether the mode requires authentication on the
// connection.
func (m Mode) Authenticates() bool { return m != ModeKnock }

// modeNames returns the names of modes in the file, and whether a name implies
// visible: true.
func modeNames() map[string]modeName {
	return map[string]modeName{
		"auth":                {ModeAuth, false},
		"auth-only":           {ModeAuth, false},
		"knock":               {ModeKnock, false},
		"knock-firewall-only": {ModeKnock, false},
		"knock-auth":          {ModeKnockAuth, false},
		"knock-firewall-auth": {ModeKnockAuth, false},
		"knock-auth-only":     {ModeKnockAuth, true},
	}
}

type modeName struct {
	mode    Mode
	visible bool
}

// Method is a family of knock methods: udp includes udp-passive, and the same
// for their sequences.
type Method string

// The method families.
const (
	MethodUDP       Method = protocol.MethodUDP
	MethodUDPSeq    Method = protocol.MethodUDPSeq
	MethodTCPSYN    Method = protocol.MethodTCPSYN
	MethodTCPSYNSeq Method = protocol.MethodTCPSYNSeq
	MethodUDPv2     Method = protocol.MethodUDPv2
)

// allMethods returns every family, in the order of the documentation.
func allMethods() []Method {
	return []Method{MethodUDP, MethodUDPSeq, MethodTCPSYN, MethodTCPSYNSeq, MethodUDPv2}
}

// parseMethod parses a name of a knock method. tcp-auth is not one.
func parseMethod(name string) (Method, bool) {
	m, err := protocol.ParseMethod(name)
	if err != nil || m == protocol.MethodTCPAuth {
		return "", false
	}
	return Method(protocol.MethodFamily(m)), true
}

// AuthProtocol is a format of TCP authentication.
type AuthProtocol string

// The formats of TCP authentication.
const (
	AuthV1 AuthProtocol = "v1" // tcp-auth-frame-v1
	AuthV2 AuthProtocol = "v2" // tcp-auth-envelope-v2
)

// Filter is whether packets are filtered in the kernel.
type Filter string

// The values of tun.filter.
const (
	FilterAuto    Filter = "auto"    // if that is permitted
	FilterOff     Filter = "off"     // never
	FilterRequire Filter = "require" // always; else the gateway does not start
)

// Hint is how a server finds the client of an envelope.
type Hint string

// The hint modes.
const (
	HintRoute Hint = "route-hint" // by eight bytes of the envelope
	HintNone  Hint = "none"       // by trying every client
)

// The values of a service's session key.
const (
	sessionRequired = "required"
	sessionOptional = "optional"
)
