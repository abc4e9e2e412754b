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
func (s *Stack) Handshakes() (now, most int) { return int(s.handshakes.Load()), maxRequests }

// Connections is what the stack's TCP endpoints are at and hold at a moment. How many
// there may be is the gate's to say: each is a flow in its table.
type Connections struct {
	Handshake, Established, Closing, TimeWait int
	// Unread is what all of them have received and nobody has read, in bytes;
	// UnreadMost is that of the one that has the most, of UnreadLimit.
	Unread, UnreadMax, UnreadLimit int
}

// A statsCache is the last look at all endpoints. gVisor keeps its table of them locked while it lists it, for about a
// microsecond each: with hundreds of thousands of connections packets wait noticeably, so a long look is not repeated soon.
type statsCache struct {
	mu   sync.Mutex
	last Connections
	next time.Time // before which last has to do
}

const (
	// shortScan is a look that nobody notices: some thousand connections.
	shortScan = 5 * time.Millisecond
	// scanBackoff is how often as long as a longer one took there is none: packets wait a thousandth of the time at most.
	scanBackoff = 1000
)

// get returns what there was at the last look, which it takes if it is time to.
func (v *statsCache) get(now func() time.Time, at func() Connections) Connections {
	v.mu.Lock()
	defer v.mu.Unlock()
	began := now()
	if began.Before(v.next) {
		return v.last
	}
	v.last = at()
	ended := now()
	if took := ended.Sub(began); took > shortScan {
		v.next = ended.Add(scanBackoff * took)
	}
	return v.last
}

// Connections is what the endpoints were at and held at the last look at all of them, which is now unless there are
// very many.
func (s *Stack) Connections() Connections { return s.statsCache.get(time.Now, s.scanConnections) }

// scanConnections looks at all endpoints.
func (s *Stack) scanConnections() Connections {
	c := Connections{UnreadLimit: maxRecvBuf}
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
			c.UnreadMax = max(c.UnreadMax, n)
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
