package auth

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/knockgw/knockgw/protocol"
)

// Defaults of the options.
const (
	DefaultDeadline  = 3 * time.Second        // long enough for a slow path, short enough for unauthorized hosts
	DefaultWindow    = protocol.DefaultWindow // 30 s: how far two clocks may differ
	DefaultMaxTrials = 64                     // decryptions per connection; libknock refuses more as well
)

// maxFrameV1 is the maximum size of a frame v1, header included, in bytes: its
// length is a u16.
const maxFrameV1 = protocol.FrameV1Header + 1<<16 - 1

// Protocol is a message format, or a set of them in Server.Protocols.
type Protocol uint8

// The formats.
const (
	V1 Protocol = 1 << iota // frame v1
	V2                      // envelope v2
)

// String returns v1, v2 or v1|v2.
func (p Protocol) String() string {
	switch p {
	case V1:
		return "v1"
	case V2:
		return "v2"
	case V1 | V2:
		return "v1|v2"
	default:
		return "invalid"
	}
}

// Server authenticates connections. Its fields are options, which must not
// change after the first use. It is safe for concurrent use and must not be
// copied after the first use.
type Server struct {
	// Port is the protected port: the service's TCP port as clients know it.
	// Required.
	Port uint16
	// Clients are the candidates. A handshake iterates several times,
	// concurrently with other handshakes. HandshakeWith takes others. The
	// clients of Secrets.All can change.
	Clients iter.Seq[*protocol.Client]
	// Resolve, if not nil, replaces Clients: it is called once per connection,
	// before anything is read from it, and the handshake iterates over its
	// result several times. It is called for every connection of every host,
	// whose client is not known yet: a message names no client, it matches the
	// secret of one. So it must return at once, from memory. If the clients are
	// in a database, keep a Secrets up to date from there.
	Resolve func(conn net.Conn) iter.Seq[*protocol.Client]
	// Others, if not nil, returns further candidates for a message that matches
	// none of the first, so that a caller with many clients can try the likely
	// ones first. If it reports false, they are too many to try now, and the
	// handshake fails with ResultLimited, as silently as with any other. It is
	// called at most once per connection and must return at once.
	Others func(conn net.Conn) (iter.Seq[*protocol.Client], bool)
	// Protocols are the accepted formats; zero means both. With both, a first
	// byte of 0x01 means v1; with V2 alone, an envelope may begin with any
	// byte.
	Protocols Protocol
	// Hint is the hint mode of envelopes; empty means protocol.HintRoute. It is
	// not on the wire.
	Hint protocol.HintMode
	// Buckets are the accepted envelope sizes, in bytes; nil means
	// protocol.DefaultBuckets. Those over MaxFrame are not accepted.
	Buckets []int
	// Proof enables the server proof. If it is disabled, clients that request
	// one fail.
	Proof bool
	// Deadline is when a handshake fails, counted from its start; zero means
	// DefaultDeadline.
	Deadline time.Duration
	// Window is how far a message's time may be from ours, inclusive; zero
	// means DefaultWindow.
	Window time.Duration
	// MaxFrame is the largest message in bytes; zero means
	// protocol.DefaultMaxFrame.
	MaxFrame int
	// MaxTrials limits the decryptions per connection; zero means
	// DefaultMaxTrials.
	MaxTrials int
	// Now is the wall clock that messages are compared with; nil means time.Now.
	Now func() time.Time
	// Replay remembers nonces; nil means a MemoryReplay of this Server's own.
	Replay Replay
	// Authorize, if not nil, is called when everything about the message but
	// its replay is verified. It must call claim last, and use a grant or the
	// like only if claim returned nil. It returns claim's error unchanged, or
	// an error of its own to refuse. ctx is the handshake's: an Authorize that
	// waits must return when ctx ends, and limit the time to Deadline itself.
	Authorize func(ctx context.Context, p Peer, claim func() error) error

	once     sync.Once
	set      settings
	attempts sync.Pool // of *attempt, each of MaxFrame bytes or the largest bucket
}

// settings are the options with defaults filled in.
type settings struct {
	protocols Protocol
	buckets   []int // ascending, none over MaxFrame
	deadline  time.Duration
	window    time.Duration
	maxFrame  int
	maxTrials int
	now       func() time.Time
	replay    Replay
	invalid   error // what Check says
}

// ErrOptions is wrapped by the errors of Check.
var ErrOptions = errors.New("auth: invalid options")

// Check returns an error if the options are invalid. Handshakes then fail with
// ResultMisconfigured, as silently as with any other.
func (s *Server) Check() error {
	set := s.resolve()
	switch {
	case s.Port == 0:
		return fmt.Errorf("%w: set Port to the protected port", ErrOptions)
	case set.protocols == 0 || set.protocols&^(V1|V2) != 0:
		return fmt.Errorf("%w: Protocols are V1, V2 or both", ErrOptions)
	case !s.Hint.Valid():
		return fmt.Errorf("%w: hint mode %q is neither %q nor %q", ErrOptions, s.Hint, protocol.HintRoute, protocol.HintNone)
	case set.deadline < 0 || set.window < 0 || set.maxTrials < 0:
		return fmt.Errorf("%w: Deadline, Window and MaxTrials must not be negative", ErrOptions)
	case set.maxFrame < protocol.FrameV1Header || set.maxFrame > maxFrameV1:
		return fmt.Errorf("%w: MaxFrame is %d to %d", ErrOptions, protocol.FrameV1Header, maxFrameV1)
	}

	if set.protocols&V2 == 0 {
		return nil
	}
	if len(set.buckets) == 0 {
		return fmt.Errorf("%w: no bucket is within MaxFrame, %d bytes", ErrOptions, set.maxFrame)
	}
	if minBucket := protocol.MinBucket(s.Hint); set.buckets[0] < minBucket {
		return fmt.Errorf("%w: a bucket of %d bytes holds no message; the minimum is %d", ErrOptions, set.buckets[0], minBucket)
	}
	if s.Hint == protocol.HintNone && s.Clients != nil && s.Resolve == nil {
		clients := 0
		for range s.Clients {
			clients++
		}
		if trials := clients * len(set.buckets); clients > set.maxClients(s.Hint) {
			return fmt.Errorf("%w: hint mode none would take %d trial decryptions (%d clients x %d buckets), the limit is %d; use route-hint or fewer buckets",
				ErrOptions, trials, clients, len(set.buckets), set.maxTrials)
		}
	}
	return nil
}

// MaxClients returns the maximum number of candidates of a handshake: with
// protocol.HintNone, MaxTrials divided by the number of buckets; with hints,
// math.MaxInt, since a hint selects the client.
func (s *Server) MaxClients() int {
	set := s.resolve()
	return set.maxClients(s.Hint)
}

func (set *settings) maxClients(hint protocol.HintMode) int {
	if hint != protocol.HintNone || set.protocols&V2 == 0 || len(set.buckets) == 0 {
		return math.MaxInt
	}
	return set.maxTrials / len(set.buckets)
}

// resolve returns the options with defaults filled in.
func (s *Server) resolve() settings {
	set := settings{
		protocols: s.Protocols, buckets: slices.Clone(s.Buckets), deadline: s.Deadline, window: s.Window,
		maxFrame: s.MaxFrame, maxTrials: s.MaxTrials, now: s.Now, replay: s.Replay,
	}

	if set.protocols == 0 {
		set.protocols = V1 | V2
	}
	if s.Buckets == nil {
		set.buckets = protocol.DefaultBuckets()
	}
	if set.deadline == 0 {
		set.deadline = DefaultDeadline
	}
	if set.window == 0 {
		set.window = DefaultWindow
	}
	if set.maxFrame == 0 {
		set.maxFrame = protocol.DefaultMaxFrame
	}
	if set.maxTrials == 0 {
		set.maxTrials = DefaultMaxTrials
	}
	if set.now == nil {
		set.now = time.Now
	}

	slices.Sort(set.buckets)
	set.buckets = slices.Compact(set.buckets)
	set.buckets = slices.DeleteFunc(set.buckets, func(bucket int) bool { return bucket > set.maxFrame })
	return set
}

// setup runs once, before the first handshake.
func (s *Server) setup() {
	s.set = s.resolve()
	s.set.invalid = s.Check()
	if s.set.replay == nil {
		s.set.replay = NewMemoryReplay(s.set.now)
	}
	size := max(s.set.maxFrame, protocol.FrameV1Header)
	s.attempts.New = func() any {
		return &attempt{scratch: protocol.NewScratch(), buf: make([]byte, min(size, maxFrameV1))}
	}
}

// Handshake authenticates conn as one of s.Clients or of the result of
// s.Resolve. On success it has read exactly the message, has sent the proof if
// one was requested, and has cleared the deadlines that it set: the
// application's bytes are next. On failure it returns an *Error, at the
// deadline and not before unless ctx ends. It never closes conn. The caller
// must not read from conn or set its deadlines meanwhile.
func (s *Server) Handshake(ctx context.Context, conn net.Conn) (Peer, error) {
	start, candidates := time.Now(), s.Clients
	if s.Resolve != nil {
		candidates = s.Resolve(conn)
	}
	return s.handshake(ctx, conn, candidates, start)
}
