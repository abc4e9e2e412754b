package flows

// An End is why a flow came to its end.
type End uint8

// The ends.
const (
	EndDone            End = iota // both directions were finished
	EndClientReset                // the client's connection failed
	EndUpstreamReset              // the upstream's connection failed
	EndIdle                       // nothing moved for the idle time
	EndKilled                     // revoked or evicted
	EndDrained                    // the gateway stopped
	EndHandshake                  // the client did not complete its handshake
	EndNoGrant                    // the gate objected
	EndUnauthenticated            // authentication failed
	EndUpstreamRefused            // dialling the upstream failed
	EndUpstreamTimeout            // dialling the upstream took too long
	numEnds
)

// NumEnds is the size of an array indexed by End.
const NumEnds = int(numEnds)

var endNames = [NumEnds]string{
	"done", "client-reset", "upstream-reset", "idle", "killed", "drained", "handshake",
	"no-grant", "unauthenticated", "upstream-refused", "upstream-timeout",
}

// String returns the end's name, fit for a metric label.
func (e End) String() string { return endNames[e] }
