package netstack

import (
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// Handshakes returns the number of handshakes in progress with hidden services,
// and its limit.
func (s *Stack) Handshakes() (used, limit int) { return int(s.handshakes.Load()), maxRequests }

// Connections are statistics of the stack's TCP endpoints. The gate limits
// their number: each is a flow in its table.
type Connections struct {
	Handshake, Established, Closing, TimeWait int
	// Unread is the number of bytes received and not yet read, of all endpoints;
	// UnreadMax is that of the endpoint with most, at most UnreadLimit.
	Unread, UnreadMax, UnreadLimit int
}

// A statsCache holds the result of the last scan of all endpoints. gVisor locks
// its table of endpoints during a scan, for about a microsecond each: with
// hundreds of thousands of connections packets are delayed noticeably, so a
// long scan is not repeated soon.
type statsCache struct {
	mu   sync.Mutex
	last Connections
	next time.Time // when last expires
}

const (
	// shortScan is the duration of a scan that need not be limited: some
	// thousand connections.
	shortScan = 5 * time.Millisecond
	// scanBackoff is the factor of a longer scan's duration for which no other
	// is made: packets wait for at most a thousandth of the time.
	scanBackoff = 1000
)

// get returns the last result, or that of a new scan if it has expired.
func (c *statsCache) get(now func() time.Time, scan func() Connections) Connections {
	c.mu.Lock()
	defer c.mu.Unlock()
	start := now()
	if start.Before(c.next) {
		return c.last
	}
	c.last = scan()
	end := now()
	if elapsed := end.Sub(start); elapsed > shortScan {
		c.next = end.Add(scanBackoff * elapsed)
	}
	return c.last
}

// Connections returns statistics of the endpoints. With very many endpoints
// they may be those of an earlier scan.
func (s *Stack) Connections() Connections { return s.statsCache.get(time.Now, s.scanConnections) }

// scanConnections scans all endpoints.
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

// endpoints returns all endpoints, or none once the stack is closing. They may
// be used after it has closed.
func (s *Stack) endpoints() []stack.TransportEndpoint {
	s.mu.RLock() // the stack must not be destroyed during the call
	defer s.mu.RUnlock()
	if s.closing {
		return nil
	}
	return s.stack.RegisteredEndpoints()
}
