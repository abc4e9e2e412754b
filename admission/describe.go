package admission

import (
	"strings"

	"github.com/knockgw/knockgw/packet"
)

// reasonDescriptions explain the reasons to operators.
var reasonDescriptions = [reasonCount]string{
	ReasonFlow:            "it belongs to an admitted flow",
	ReasonICMPError:       "an ICMP error with a path MTU for a segment that an admitted flow has sent",
	ReasonOpen:            "a SYN to a service that answers any host",
	ReasonCookie:          "an ACK that may complete a handshake by SYN cookie",
	ReasonGrant:           "a SYN of a source that holds a grant",
	ReasonKnock:           "it is or could be a knock; a worker decides",
	ReasonKnockPart:       "a part of a SYN sequence",
	ReasonDeferred:        "a SYN that waits for the decision about its source's knock",
	ReasonFragment:        "a fragment from the source of an admitted flow; it waits for the rest",
	ReasonMalformed:       "its headers or checksums are invalid",
	ReasonNotService:      "no service is at that address and port",
	ReasonNoFlow:          "a segment of no admitted flow",
	ReasonOutOfWindow:     "a segment of a flow with a sequence or acknowledgment number that its client cannot have sent",
	ReasonNoGrant:         "a SYN to a hidden service without a knock before it",
	ReasonNotKnock:        "a datagram that cannot be a knock: another port, another size, or another format",
	ReasonICMP:            "ICMP without a credible path MTU for a flow",
	ReasonBudget:          "it could be a knock, but its source, its network or all together have sent too many invalid ones",
	ReasonQueueFull:       "it could be a knock, but too many wait already",
	ReasonDeferFull:       "a SYN that would wait for its knock, but too many wait already",
	ReasonDeferTimeout:    "a SYN that waited for its knock, which was not decided in time or made no grant",
	ReasonFlowLimit:       "the flow table is full",
	ReasonUnauthenticated: "its flow has sent as much as it may before it authenticates",
	ReasonSourceLimit:     "its source has the maximum number of flows",
	ReasonBanned:          "authentication has failed too often from there",
	ReasonDraining:        "the gateway is stopping",
}

// Description explains the reason in a sentence without its beginning.
func (r Reason) Description() string { return reasonDescriptions[r] }

// DescribeReason returns the Description of the reason of that name, with or
// without the fault behind it; "" if there is none.
func DescribeReason(name string) string {
	for r := range reasonCount {
		if of := reasonNames[r]; name == of || r == ReasonMalformed && strings.HasPrefix(name, of+"-") {
			return reasonDescriptions[r]
		}
	}
	return ""
}

// ReasonNames returns all names that a packet's reason has in Stats: in place of
// the one for malformed packets, one for each fault.
func ReasonNames() (names []string) {
	for r := range reasonCount {
		if r != ReasonMalformed {
			names = append(names, r.String())
		}
	}
	for f := packet.NotDropped + 1; int(f) < packet.NumDropReasons; f++ {
		names = append(names, ReasonMalformed.String()+"-"+f.String())
	}
	return names
}
