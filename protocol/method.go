package protocol

// The names of the methods on the wire and in configuration. A knock's method
// is sealed in it; those of SYN knocks and tcp-auth are not checked.
const (
	MethodUDP           = "udp"             // one datagram
	MethodUDPSeq        = "udp-seq"         // several datagrams, in any order
	MethodUDPPassive    = "udp-passive"     // as udp: only the text differs
	MethodUDPPassiveSeq = "udp-passive-seq" // as udp-seq: only the text differs
	MethodTCPSYN        = "tcp-syn"         // one SYN
	MethodTCPSYNSeq     = "tcp-syn-seq"     // several SYNs, strictly in order
	MethodUDPv2         = "udp-v2"          // one datagram in a format of our own; sealed in no knock v1
	MethodTCPAuth       = "tcp-auth"        // no knock: authentication on the stream
)

// ParseMethod returns the wire name of a method. Configuration may use the
// aliases udp-sequence, udp-passive-sequence and tcp-syn-sequence. It returns
// ErrMethod for unknown names. (What a client must know about a libknock
// server.)
func ParseMethod(name string) (string, error) {
	switch name {
	case "udp-sequence":
		return MethodUDPSeq, nil
	case "udp-passive-sequence":
		return MethodUDPPassiveSeq, nil
	case "tcp-syn-sequence":
		return MethodTCPSYNSeq, nil
	}
	if known := knownMethod([]byte(name)); known != "" {
		return known, nil
	}
	return "", ErrMethod
}

// MethodFamily returns the method that a packet-level gateway enables together
// with method: udp for udp and udp-passive, udp-seq for their sequences, and
// method itself otherwise. (UDP knock v1.)
func MethodFamily(method string) string {
	switch method {
	case MethodUDPPassive:
		return MethodUDP
	case MethodUDPPassiveSeq:
		return MethodUDPSeq
	default:
		return method
	}
}

// knownMethod returns the constant equal to text, or "", so that decoding a
// known method does not allocate. (The compiler does not convert in a switch
// over string(text).)
func knownMethod(text []byte) string {
	switch string(text) {
	case MethodUDP:
		return MethodUDP
	case MethodUDPSeq:
		return MethodUDPSeq
	case MethodUDPPassive:
		return MethodUDPPassive
	case MethodUDPPassiveSeq:
		return MethodUDPPassiveSeq
	case MethodTCPSYN:
		return MethodTCPSYN
	case MethodTCPSYNSeq:
		return MethodTCPSYNSeq
	case MethodUDPv2:
		return MethodUDPv2
	case MethodTCPAuth:
		return MethodTCPAuth
	default:
		return ""
	}
}

// methodText returns text as a string.
func methodText(text []byte) string {
	if known := knownMethod(text); known != "" {
		return known
	}
	return string(text)
}
