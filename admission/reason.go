package admission

// An Action is what the gate does with a packet.
type Action uint8

// The actions.
const (
	Drop Action = iota // forget it, in silence
	Pass               // hand it to the stack
	Hold               // the gate keeps a copy; it is decided later
)

var actionNames = [...]string{"drop", "pass", "hold"}

// String returns the action's name, fit for a metric label.
func (a Action) String() string { return actionNames[a] }

// A Reason says why a packet was passed, held or dropped.
type Reason uint8

// The reasons.
const (
	// Pass.
	ReasonFlow      Reason = iota // belongs to an admitted flow
	ReasonICMPError               // ICMP error with a path MTU for an admitted flow
	ReasonOpen                    // SYN to an open service
	ReasonCookie                  // ACK to an open service under a SYN flood; the stack checks its cookie
	ReasonGrant                   // SYN of a source with a grant
	// Hold.
	ReasonKnock     // is or could be a knock, queued
	ReasonKnockPart // a part of a SYN sequence that is not complete yet
	ReasonDeferred  // SYN of a source whose knock is being decided, and without which it may not pass
	ReasonFragment  // part of a packet of an admitted flow's source
	// Drop.
	ReasonMalformed       // Packet.Parse refused it; counted by packet.DropReason
	ReasonNotService      // no service is at that address and port
	ReasonNoFlow          // TCP other than SYN, of no admitted flow
	ReasonOutOfWindow     // of an admitted flow, with numbers that its client cannot have sent
	ReasonNoGrant         // SYN to a hidden service
	ReasonNotKnock        // a datagram that cannot be a knock
	ReasonICMP            // any other ICMP
	ReasonBudget          // could be a knock, but its source, its subnet or all together have used up their budget
	ReasonQueueFull       // could be a knock, but too many wait, of all or of that source
	ReasonDeferFull       // too many deferred SYNs, of all or of that source
	ReasonDeferTimeout    // the knock was not decided in time, or it made no grant
	ReasonFlowLimit       // the flow table is full
	ReasonUnauthenticated // the flow has sent as much as it may before it is authorized
	ReasonSourceLimit     // the source has too many flows
	ReasonBanned          // SYN to an open service from where authentication failed too often
	ReasonDraining        // a new flow while the gateway stops
	reasonCount
)

var reasonNames = [reasonCount]string{
	"flow", "icmp-error", "open-service", "syn-cookie", "grant",
	"knock", "knock-part", "deferred", "fragment",
	"malformed", "no-service", "no-flow", "out-of-window", "no-grant", "not-a-knock", "icmp",
	"knock-budget", "knock-queue-full", "defer-full", "defer-timeout",
	"flow-limit", "unauthenticated-limit", "source-limit", "banned", "draining",
}

// String returns the reason's name, fit for a metric label.
func (r Reason) String() string { return reasonNames[r] }

// A Verdict is the gate's decision about one packet.
type Verdict struct {
	Action Action
	Reason Reason
	// Open: the flow is of an open service, where any host can reach the stack
	// itself. The stack keeps those apart.
	Open bool
	Handling
}

// Handling is what the stack does with a packet that passes besides taking it.
// It is apart from Verdict because the compiler keeps structs of up to four
// fields in registers, and only those.
type Handling struct {
	// TupleReused: the packet is a SYN that takes over the tuple of an older
	// flow. The stack is to forget what it may still hold of that one before it
	// sees the SYN.
	TupleReused bool
	// Reset: the flow has been revoked. The stack is to answer with a reset, and
	// not to look at the packet otherwise.
	Reset bool
	// Unstamped: the client, or a middlebox, has left out the timestamp option
	// that was negotiated. The stack would not take the ACK of its SYN-ACK
	// without one, as other stacks do: it is to see Timestamp, that of the
	// client's SYN.
	Unstamped bool
	Timestamp uint32
}
