package admission

import (
	"time"

	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/protocol"
)

// methodName is what a knock calls its method, if it is a name that exists: it
// may end up in a metric's label.
func methodName(method string) string {
	if name, err := protocol.ParseMethod(method); err == nil && name == method {
		return method
	}
	return "other"
}

// judge verifies what an authentic v1 knock says against the service.
func judge(s *policy.Service, m *protocol.KnockMessage, skew time.Duration, p *policy.Policy) KnockResult {
	switch {
	case !allows(s, m):
		return KnockMethod
	case m.Sequence() && int(m.Total) != p.Sequence().Length:
		return KnockRefused
	case s.SessionRequired && len(m.SessionID) == 0 && s.Authenticates():
		return KnockNoSession
	case skew.Abs() > p.Window():
		return KnockStale
	}
	return KnockOK
}

// allows tells whether the service takes the method that a knock names, which
// must be one that its form is of.
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
