// Package verdict names and describes the decisions about packets, both those
// of the gate and those of its egress filter, for traces, captures and
// explanations.
package verdict

import (
	"slices"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/packet"
)

// EgressDropped is the reason of packets that the egress gate dropped.
const EgressDropped = "egress"

// Reasons returns all reasons of verdicts, sorted.
func Reasons() []string {
	all := append(admission.ReasonNames(), EgressDropped)
	slices.Sort(all)
	return all
}

// Describe describes a reason in words; out reports whether the packet was sent
// by the gateway.
func Describe(out bool, reason string) string {
	switch {
	case !out:
		return admission.DescribeReason(reason)
	case reason == EgressDropped:
		return "no admitted flow has this answer"
	default:
		return "an answer within an admitted flow"
	}
}

// Reason returns the name of a verdict's reason, as in the metrics.
func Reason(p *packet.Packet, v admission.Verdict) string {
	if v.Reason == admission.ReasonMalformed {
		return v.Reason.String() + "-" + p.DropReason.String()
	}
	return v.Reason.String()
}
