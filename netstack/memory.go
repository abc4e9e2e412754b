package netstack

import (
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
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

// A survey is the last look at all endpoints. gVisor keeps its table of them locked while it lists it, for about a
// microsecond each: with hundreds of thousands of connections packets wait noticeably, so a long look is not repeated soon.
type survey struct {
	mu   sync.Mutex
	last Connections
	next time.Time // before which last has to do
}

const (
	// surveyBrief is a look that nobody notices: some thousand connections.
	surveyBrief = 5 * time.Millisecond
	// surveyRest is how often as long as a longer one took there is none: packets wait a thousandth of the time at most.
	surveyRest = 1000
)

// look returns what there was at the last look, which it takes if it is time to.
func (v *survey) look(now func() time.Time, at func() Connections) Connections {
	v.mu.Lock()
	defer v.mu.Unlock()
	began := now()
	if began.Before(v.next) {
		return v.last
	}
	v.last = at()
	ended := now()
	if took := ended.Sub(began); took > surveyBrief {
		v.next = ended.Add(surveyRest * took)
	}
	return v.last
}

// Connections is what the endpoints were at and held at the last look at all of them, which is now unless there are
// very many.
func (s *Stack) Connections() Connections { return s.survey.look(time.Now, s.connections) }

// connections looks at all endpoints.
func (s *Stack) connections() Connections {
	c := Connections{UnreadLimit: receiveMost}
	for _, one := range s.endpoints() {
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

// endpoints lists them, and none when the stack is ending. They can be asked when it is gone.
func (s *Stack) endpoints() []stack.TransportEndpoint {
	s.mu.RLock() // so that the stack is not destroyed meanwhile
	defer s.mu.RUnlock()
	if s.closing {
		return nil
	}
	return s.stack.RegisteredEndpoints()
}
