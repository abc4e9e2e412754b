package admission

import (
	"strings"

	"github.com/knockgw/knockgw/packet"
)

// What the names of reasons and results mean, for who reads them at night.

var reasonWords = [reasonCount]string{
	ReasonFlow:        "it belongs to a flow that was let in",
	ReasonICMPError:   "an ICMP error with a path MTU for something that a flow has sent",
	ReasonOpen:        "a SYN to a service that answers strangers",
	ReasonCookie:      "an ACK that may complete a handshake by SYN cookie",
	ReasonGrant:       "a SYN from where a knock has opened the door",
	ReasonKnock:       "it is or could be a knock; a worker decides",
	ReasonKnockPart:   "a part of a SYN sequence",
	ReasonParked:      "a SYN that waits for its source's knock to be decided",
	ReasonFragment:    "a fragment from the source of a flow; it waits for the rest",
	ReasonMalformed:   "its headers or checksums are not in order",
	ReasonNotService:  "nothing is protected at that address and port",
	ReasonNoFlow:      "a segment of no flow that was let in",
	ReasonOutOfWindow: "a segment of a flow whose sequence or acknowledgement number its client cannot have sent",
	ReasonNoGrant:     "a SYN to a hidden service without a knock before it",
	ReasonNotKnock:    "a datagram that cannot be a knock: another port, another size, or another form",
	ReasonICMP:        "ICMP without a credible path MTU for a flow",
	ReasonBudget:      "it could be a knock, but its source, its network or all together have sent too many that were none",
	ReasonQueueFull:   "it could be a knock, but too many wait already",
	ReasonParkFull:    "a SYN that would wait for its knock, but too many do already",
	ReasonParkTimeout: "a SYN that waited for its knock, which was not decided in time or earned nothing",
	ReasonFlowLimit:   "there are as many flows as there may be",
	ReasonUnproven:    "its flow has sent as much as it may before it is authenticated",
	ReasonSourceLimit: "its source has as many flows as it may have",
	ReasonBanned:      "authentication has failed too often from there",
	ReasonDraining:    "the gateway stops",
}

// Words explain the reason in a sentence without its beginning.
func (r Reason) Words() string { return reasonWords[r] }

// ReasonWords are the Words of the reason of that name, with or without the fault
// behind it; "" if there is none.
func ReasonWords(name string) string {
	for r := range reasonCount {
		if of := reasonNames[r]; name == of || r == ReasonMalformed && strings.HasPrefix(name, of+"-") {
			return reasonWords[r]
		}
	}
	return ""
}

// ReasonNames are all the names that a packet's reason has in Stats: in place of the
// one for malformed packets, one for each fault.
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
