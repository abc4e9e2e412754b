package guard

import "github.com/knockgw/knockgw/internal/policy"

// A Mode says what a client must do to reach a service.
type Mode = policy.Mode

// The modes.
const (
	ModeAuth      = policy.ModeAuth      // authenticate; any host may connect
	ModeKnock     = policy.ModeKnock     // knock
	ModeKnockAuth = policy.ModeKnockAuth // knock, then authenticate as the client that knocked
)
