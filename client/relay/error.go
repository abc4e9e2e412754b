package relay

// Side is one of the two connections of a relay.
type Side string

// The two sides.
const (
	App     Side = "application"
	Service Side = "service"
)

// The values of Error.Op.
const (
	OpCopy  = "copy"        // reading from one side or writing to the other
	OpClose = "close write" // passing on the end of stream
)

// Error is the failure of one direction of a relay. Where the kernel moves the
// bytes, it does not report which of the two connections failed: Side is where
// the bytes came from, and Err may be of reading from that side or of writing to
// the other one.
type Error struct {
	Side Side   // where the bytes came from
	Op   string // OpCopy or OpClose
	Err  error
}

// Error returns the direction and the cause.
func (e *Error) Error() string {
	if e.Op == OpClose {
		return "pass on the end of the " + string(e.Side) + "'s stream: " + e.Err.Error()
	}
	return "copy from the " + string(e.Side) + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
