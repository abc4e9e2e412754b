package config

import "github.com/knockgw/knockgw/protocol"

// Mode says what a client must do to use a service.
type Mode string

// The modes. libknock's names are aliases of them in the file.
const (
	ModeAuth      Mode = "auth"       // authenticate on the stream; strangers can connect
	ModeKnock     Mode = "knock"      // knock first
	ModeKnockAuth Mode = "knock-auth" // knock first, then authenticate
)

// Knocks reports whether the mode asks for a knock.
func (m Mode) Knocks() bool { return m != ModeAuth }

// Authenticates reports whether the mode asks for authentication on the stream.
func (m Mode) Authenticates() bool { return m != ModeKnock }

// modeNames are the modes as the file may spell them, and whether the spelling says visible: true.
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

// Method is a family of knock methods: udp is udp-passive too, as their sequences are one.
type Method string

// The method families.
const (
	MethodUDP       Method = protocol.MethodUDP
	MethodUDPSeq    Method = protocol.MethodUDPSeq
	MethodTCPSYN    Method = protocol.MethodTCPSYN
	MethodTCPSYNSeq Method = protocol.MethodTCPSYNSeq
	MethodUDPv2     Method = protocol.MethodUDPv2
)

// allMethods is every family, in the order of the documentation.
func allMethods() []Method {
	return []Method{MethodUDP, MethodUDPSeq, MethodTCPSYN, MethodTCPSYNSeq, MethodUDPv2}
}

// parseMethod knows every spelling of a method, and that tcp-auth is none that knocks.
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

// Filter says whether packets are refused in the kernel already.
type Filter string

// The values of tun.filter.
const (
	FilterAuto    Filter = "auto"    // where that is permitted
	FilterOff     Filter = "off"     // never
	FilterRequire Filter = "require" // or the gateway does not start
)

// Hint says how a server finds an envelope's client.
type Hint string

// The hint modes.
const (
	HintRoute Hint = "route-hint" // by eight bytes in the envelope
	HintNone  Hint = "none"       // by trying every client
)

// The values of a service's session key.
const (
	sessionRequired = "required"
	sessionOptional = "optional"
)
