package netstack

import (
	"fmt"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// The settings of the stack. Measure again when gVisor's version moves.
const (
	// Buffers, in bytes: least, to begin with, most. The middle values fill a
	// gigabit at 8 ms; moderation raises the receive side from there. The largest
	// leave room for 500 Mb/s at 100 ms.
	minRecvBuf     = 4 << 10
	defaultRecvBuf = 1 << 20
	maxRecvBuf     = 8 << 20
	minSendBuf     = 4 << 10
	defaultSendBuf = 1 << 20
	maxSendBuf     = 6 << 20

	// Probes keep alive what is on the way, as the state of a NAT, and find out
	// that a peer has forgotten the connection. That none is answered ends
	// nothing: the client may sleep. When it is time to give up is for the flow's
	// idle time to say, which is silentTime at most; the same goes for what is
	// sent again.
	keepaliveInterval = 60 * time.Second
	keepaliveCount    = int(maxSilence / keepaliveInterval)
	maxRTO            = 60 * time.Second // RFC 6298, 2.5; a client that wakes up waits no longer
	maxRetries        = int(maxSilence/maxRTO) + retriesToMaxRTO
	retriesToMaxRTO   = 10 // from gVisor's least, 200 ms
	maxSilence        = 7 * 24 * time.Hour

	// closeTimeout is how long what is left to send, and a FIN, is sent again after
	// the connection was closed: what a kernel does.
	closeTimeout = 15 * time.Minute

	// maxRequests bounds the connections of hidden services that have not
	// completed their handshake. Each is a goroutine and an endpoint. It is twice
	// as many as the gate admits, whose choice it is which of them goes: those
	// that were evicted there take a moment to go here.
	maxRequests = 8192

	// backlog is how many handshakes with an open port may be under way before
	// its listener answers with SYN cookies only, which cost no memory but know
	// neither window scaling nor SACK. Also the connections not yet accepted.
	backlog = 1024
)

// TimeWaitTime is how long an endpoint stays in TIME_WAIT: shorter than RFC
// 9293's 2 MSL of four minutes, as everywhere, and shorter than Linux's minute.
// Each one is memory that a client can have us keep.
const TimeWaitTime = 10 * time.Second

// applyOptions applies the settings to s.
func applyOptions(s *stack.Stack) error {
	var (
		sack     = tcpip.TCPSACKEnabled(true)
		cubic    = tcpip.CongestionControlOption("cubic")
		moderate = tcpip.TCPModerateReceiveBufferOption(true)
		// RACK is off: with it, 500 Mb/s x 40 ms of a single stream fell to a
		// tenth in this version of gVisor.
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

// enableKeepalive switches probes on for a connection.
func enableKeepalive(ep tcpip.Endpoint) {
	idle := tcpip.KeepaliveIdleOption(keepaliveInterval)
	interval := tcpip.KeepaliveIntervalOption(keepaliveInterval)
	// None of these can fail on a TCP endpoint; without them a flow still ends
	// by its idle time.
	_ = ep.SetSockOpt(&idle)
	_ = ep.SetSockOpt(&interval)
	_ = ep.SetSockOptInt(tcpip.KeepaliveCountOption, keepaliveCount)
	ep.SocketOptions().SetKeepAlive(true)
	ep.SocketOptions().SetDelayOption(false) // no Nagle: we relay what somebody else has already batched
}
