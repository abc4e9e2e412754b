package admission

import (
	"log/slog"
	"time"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/packet"
)

// Limits bound what the gate keeps. Zero fields take the defaults.
type Limits struct {
	Flows                 int // in the table; default DefaultFlows
	HalfOpen              int // unauthenticated flows per open service; default DefaultHalfOpen, and a quarter of Flows for all of them
	Grants                int // in all; default DefaultGrants
	GrantsPerSource       int // default DefaultGrantsPerSource
	GrantsPerClient       int // where the client has no limit of its own; default DefaultGrantsPerClient
	FlowsPerClient        int // where the client has no limit of its own; default DefaultFlowsPerClient
	FlowsPerSource        int // from one address; default DefaultFlowsPerSource
	Knocks                int // waiting to be decided; default DefaultKnocks
	KnocksPerSource       int // of these, from one address; default DefaultKnocksPerSource
	DeferredSYNs          int // SYNs waiting for a knock; default DefaultParked
	DeferredSYNsPerSource int // of these, from one address; default DefaultParkedPerSource
}

// Defaults of Limits.
const (
	DefaultFlows                 = 1 << 17 // 128 Ki flows: about 52 MiB, or 80 MiB where each is from an address of its own
	DefaultHalfOpen              = 1 << 14 // a third of a second of a 50,000 SYN/s flood; SYN cookies beyond
	DefaultGrants                = 1 << 16
	DefaultGrantsPerSource       = 1024 // a large office behind one address
	DefaultGrantsPerClient       = 256
	DefaultFlowsPerClient        = 4096
	DefaultFlowsPerSource        = 4096
	DefaultKnocks                = 512 // in each of two queues, of up to protocol.MaxKnock bytes: half a MiB
	DefaultKnocksPerSource       = 128 // an office behind one address that connects at the same moment
	DefaultDeferredSYNs          = 4096
	DefaultDeferredSYNsPerSource = 128 // for as many knocks
)

// Options configures a Gate.
type Options struct {
	Policy *policy.Policy // required
	Store  replay.Store   // required; the gate does not close it

	// Now is the wall clock, for the freshness of messages; default time.Now.
	Now func() time.Time
	// Mono is the monotonic clock, for everything that lasts; default: time
	// since New.
	Mono func() time.Duration

	// Deliver passes a packet that was deferred to the stack. The packet is
	// borrowed for the call. Required.
	Deliver func(p *packet.Packet, v Verdict)
	// Deferred receives the verdict about a packet that was deferred: a Pass,
	// which is delivered next, or a Drop. The packet is borrowed for the call.
	// Optional.
	Deferred func(p *packet.Packet, v Verdict)
	// Evicted makes the stack forget a flow that is no longer in the table.
	// Required.
	Evicted func(t packet.Tuple)
	// Revoked makes the stack forget a flow that a change of policy has removed
	// from the table. Default: Evicted.
	Revoked func(t packet.Tuple)
	// Knocked receives every knock that was decided, from a worker. Optional.
	Knocked func(knock.Event)
	// Banned receives every ban that begins, from the caller of Failed.
	// Default: it is logged, at a limited rate.
	Banned func(BanEvent)

	// CloseState returns how far the stack is with closing a flow whose relay is
	// done. Default: EndpointClosed.
	CloseState func(t packet.Tuple) CloseState
	// Offload is told what the gate admits. Optional.
	Offload Offload
	// MTU is the device's, in bytes: no larger path MTU is of interest. Default:
	// packet.MaxPacket.
	MTU int
	// TimeWait is how long the stack's endpoints stay in TIME_WAIT.
	TimeWait time.Duration
	Limits   Limits
	Ban      Ban
	Log      *slog.Logger // default: discard
}

// A CloseState is how far the stack's endpoint of a flow is with closing.
type CloseState uint8

// The close states.
const (
	EndpointClosed   CloseState = iota // the endpoint is gone
	EndpointTimeWait                   // it only answers late segments
	EndpointBusy                       // it has something to send, or waits for the peer's FIN
)
