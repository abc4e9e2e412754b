package netstack

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// Handshakes is how many handshakes with hidden services are under way, and how many
// there may be.
func (s *Stack) Handshakes() (now, most int) { return int(s.hands.Load()), maxRequests }

// Connections is what the stack's TCP endpoints are at and hold at a moment. How many
// there may be is the gate's to say: each is a flow in its table.
type Connections struct {
	Handshake, Established, Closing, TimeWait int
	// Unread is what all of them have received and nobody has read, in bytes;
	// UnreadMost is that of the one that has the most, of UnreadLimit.
	Unread, UnreadMost, UnreadLimit int
}

// Connections looks at all endpoints.
func (s *Stack) Connections() Connections {
	c := Connections{UnreadLimit: receiveMost}
	s.mu.RLock() // so that the stack is not destroyed meanwhile
	defer s.mu.RUnlock()
	if s.closing {
		return c
	}
	for _, one := range s.stack.RegisteredEndpoints() {
		ep, ok := one.(*tcp.Endpoint)
		if !ok {
			continue
		}
		switch ep.EndpointState() {
		case tcp.StateListen:
			continue
		case tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv:
			c.Handshake++
		case tcp.StateEstablished:
			c.Established++
		case tcp.StateTimeWait:
			c.TimeWait++
		default:
			c.Closing++
		}
		if n, err := ep.GetSockOptInt(tcpip.ReceiveQueueSizeOption); err == nil {
			c.Unread += n
			c.UnreadMost = max(c.UnreadMost, n)
		}
	}
	return c
}
