package knock

import (
	"time"

	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/protocol"
)

// validate checks an authentic v1 knock against its service.
func validate(s *policy.Service, m *protocol.KnockMessage, skew time.Duration, pol *policy.Policy) Result {
	switch {
	case !allows(s, m):
		return MethodRefused
	case m.Sequence() && int(m.Total) != pol.Sequence().Length:
		return Malformed
	case s.SessionRequired && len(m.SessionID) == 0 && s.Authenticates():
		return NoSession
	case skew.Abs() > pol.Window():
		return Stale
	}
	return OK
}

// allows reports whether the service takes the method that a knock names, and
// the knock has that method's form.
func allows(s *policy.Service, m *protocol.KnockMessage) bool {
	switch protocol.MethodFamily(m.Method) {
	case protocol.MethodUDP:
		return s.Methods&policy.MethodUDP != 0 && !m.Sequence()
	case protocol.MethodUDPSeq:
		return s.Methods&policy.MethodUDPSeq != 0 && m.Sequence()
	default:
		return false
	}
}

// methodName is what a knock calls its method, if that is an existing name: it
// may end up in a metric's label.
func methodName(method string) string {
	if name, err := protocol.ParseMethod(method); err == nil && name == method {
		return method
	}
	return "other"
}
