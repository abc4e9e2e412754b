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
	FlowsPerClient        int // likewise; default DefaultFlowsPerClient
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
	DefaultKnocks                = 512 // in each of two lanes, of up to protocol.MaxKnock bytes: half a MiB
	DefaultKnocksPerSource       = 128 // an office behind one address, all of which connect at once
	DefaultDeferredSYNs          = 4096
	DefaultDeferredSYNsPerSource = 128 // for as many knocks
)

// Options is what a Gate is made of.
type Options struct {
	Policy *policy.Policy // required
	Store  replay.Store   // required; the gate does not close it

	// Now is the wall clock, for the freshness of messages; default time.Now.
	Now func() time.Time
	// Mono is the monotonic clock, for everything that lasts; default: time
	// since New.
	Mono func() time.Duration

	// Deliver hands a packet, parked until now, to the stack. The packet is
	// borrowed for the call. Required.
	Deliver func(p *packet.Packet, v Verdict)
	// Deferred is told what became of a packet that was parked: a Pass, which is
	// delivered next, or a Drop. The packet is borrowed for the call. Optional.
	Deferred func(p *packet.Packet, v Verdict)
	// Evicted tells the stack to forget a flow that is in the table no more. Required.
	Evicted func(t packet.Tuple)
	// Revoked tells the stack to forget a flow that a change of policy has taken out of
	// the table. Default: Evicted.
	Revoked func(t packet.Tuple)
	// Knocked is told of every knock that was decided, from a worker. Optional.
	Knocked func(knock.Event)
	// Banned is told of every ban that begins, from whoever called Failed. Default:
	// it is logged, some a second.
	Banned func(BanEvent)

	// CloseState tells how far the stack is with a flow whose relay is done.
	// Default: it is done too.
	CloseState func(t packet.Tuple) CloseState
	// Offload is told what the gate lets in. Optional.
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

// The settlements.
const (
	EndpointClosed   CloseState = iota // there is no endpoint any more
	EndpointTimeWait                   // it only answers late segments
	EndpointBusy                       // it has something to send, or waits for the peer's FIN
)
