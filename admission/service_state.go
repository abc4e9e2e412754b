package admission

import (
	"time"

	"github.com/knockgw/knockgw/internal/policy"
)

// A serviceState is what the gate keeps of a service, whatever policy is in
// force. Flows and grants refer to it rather than to the service, so that a
// change of policy touches the states alone, and none of the flows of unchanged
// services.
type serviceState struct {
	service   *policy.Service // of the policy in force; where the state is gone, the last one
	gone      bool            // no policy has it any more
	pending   pendingFlows    // flows of an open service
	flooded   bool            // some of those were evicted
	floodedAt time.Duration
}
