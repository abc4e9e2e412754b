package flows

// An CloseReason is why a flow came to its end.
type CloseReason uint8

// The ends.
const (
	CloseEOF             CloseReason = iota // both directions were finished
	CloseClientReset                        // the client's connection failed
	CloseUpstreamReset                      // the upstream's connection failed
	CloseIdle                               // nothing moved for the idle time
	CloseKilled                             // revoked or evicted
	CloseDrained                            // the gateway stopped
	CloseHandshake                          // the client did not complete its handshake
	CloseNoGrant                            // the gate objected
	CloseUnauthenticated                    // authentication failed
	CloseUpstreamRefused                    // dialling the upstream failed
	CloseUpstreamTimeout                    // dialling the upstream took too long
	numCloseReasons
)

// NumCloseReasons is the size of an array indexed by End.
const NumCloseReasons = int(numCloseReasons)

var closeReasonNames = [NumCloseReasons]string{
	"done", "client-reset", "upstream-reset", "idle", "killed", "drained", "handshake",
	"no-grant", "unauthenticated", "upstream-refused", "upstream-timeout",
}

// String returns the end's name, fit for a metric label.
func (e CloseReason) String() string { return closeReasonNames[e] }
