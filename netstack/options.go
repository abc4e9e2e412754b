package netstack

import (
	"fmt"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// The settings of the stack. Measure again when gVisor is updated.
const (
	// Buffer sizes in bytes. The defaults sustain a gigabit per second at 8 ms;
	// moderation raises the receive buffer from there. The maximums allow for
	// 500 Mb/s at 100 ms.
	minRecvBuf     = 4 << 10
	defaultRecvBuf = 1 << 20
	maxRecvBuf     = 8 << 20
	minSendBuf     = 4 << 10
	defaultSendBuf = 1 << 20
	maxSendBuf     = 6 << 20

	// Probes keep state in the network alive, such as that of a NAT, and detect
	// that a peer has forgotten the connection. Missing answers do not end a
	// connection, because the client may be asleep; the idle time of its flow
	// does, which is at most maxSilence. The same applies to retransmissions.
	keepaliveInterval = 60 * time.Second
	keepaliveCount    = int(maxSilence / keepaliveInterval)
	maxRTO            = 60 * time.Second // RFC 6298, 2.5; a client that wakes up waits at most that long
	maxRetries        = int(maxSilence/maxRTO) + retriesToMaxRTO
	retriesToMaxRTO   = 10 // from gVisor's minimum of 200 ms
	maxSilence        = 7 * 24 * time.Hour

	// closeTimeout is how long unsent data and a FIN are retransmitted after the
	// connection was closed, as in a kernel.
	closeTimeout = 15 * time.Minute

	// maxRequests bounds the handshakes in progress with hidden services. Each
	// takes a goroutine and an endpoint. It is twice the gate's limit, which
	// chooses which of them is evicted: those evicted there take a moment to
	// end here.
	maxRequests = 8192

	// backlog is the number of handshakes in progress with an open port beyond
	// which its listener answers with SYN cookies only. They take no memory,
	// but support neither window scaling nor SACK. It also bounds the
	// connections not accepted.
	backlog = 1024
)

// TimeWaitTime is how long an endpoint stays in TIME_WAIT: shorter than the
// four minutes of RFC 9293 (2 MSL), and than Linux's minute. Clients can make
// us keep many of them in memory.
const TimeWaitTime = 10 * time.Second

// applyOptions applies the settings to s.
func applyOptions(s *stack.Stack) error {
	var (
		sack     = tcpip.TCPSACKEnabled(true)
		cubic    = tcpip.CongestionControlOption("cubic")
		moderate = tcpip.TCPModerateReceiveBufferOption(true)
		// RACK is off: with it, the throughput of a single stream of 500 Mb/s x
		// 40 ms fell to a tenth in this version of gVisor.
		recovery = tcpip.TCPRecovery(0)
		wait     = tcpip.TCPTimeWaitTimeoutOption(TimeWaitTime)
		rto      = tcpip.TCPMaxRTOOption(maxRTO)
		retries  = tcpip.TCPMaxRetriesOption(maxRetries)
		receive  = tcpip.TCPReceiveBufferSizeRangeOption{Min: minRecvBuf, Default: defaultRecvBuf, Max: maxRecvBuf}
		send     = tcpip.TCPSendBufferSizeRangeOption{Min: minSendBuf, Default: defaultSendBuf, Max: maxSendBuf}
	)
	for _, o := range []tcpip.SettableTransportProtocolOption{
		&sack, &cubic, &moderate, &recovery, &wait, &rto, &retries, &receive, &send,
	} {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return fmt.Errorf("netstack: set %T: %s", o, err)
		}
	}
	return nil
}

// enableKeepalive enables keepalive probes for a connection.
func enableKeepalive(ep tcpip.Endpoint) {
	idle := tcpip.KeepaliveIdleOption(keepaliveInterval)
	interval := tcpip.KeepaliveIntervalOption(keepaliveInterval)
	// These cannot fail on a TCP endpoint, and a flow also ends by its idle
	// time.
	_ = ep.SetSockOpt(&idle)
	_ = ep.SetSockOpt(&interval)
	_ = ep.SetSockOptInt(tcpip.KeepaliveCountOption, keepaliveCount)
	ep.SocketOptions().SetKeepAlive(true)
	ep.SocketOptions().SetDelayOption(false) // no Nagle: the data was batched by its sender
}
