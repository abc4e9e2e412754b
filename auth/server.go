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
	DefaultDeadline  = 3 * time.Second        // long enough for a slow path, short enough to hold strangers
	DefaultWindow    = protocol.DefaultWindow // how far apart two clocks may be
	DefaultMaxTrials = 64                     // decryptions for one connection; libknock refuses more as well
)

// maxFrameV1 is the largest a frame v1 can be, header included, in bytes: its length is a u16.
const maxFrameV1 = protocol.FrameV1Header + 1<<16 - 1

// Protocol is a message format, or in Server.Protocols a set of them.
type Protocol uint8

// The formats.
const (
	V1 Protocol = 1 << iota // frame v1
	V2                      // envelope v2
)

// String is v1, v2 or v1|v2.
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

// Server authenticates connections. Its fields are options: set them before the first use and leave
// them alone after it. It is safe for concurrent use, and must not be copied after the first use.
type Server struct {
	// Port is the protected port: the service's TCP port as clients know it. Required.
	Port uint16
	// Clients are the candidates. It is ranged over several times in a handshake, concurrently with
	// other handshakes. HandshakeWith takes others. Secrets.All is one whose clients can change.
	Clients iter.Seq[*protocol.Client]
	// Resolve, if not nil, is asked instead of Clients: once for each connection, before anything is
	// read from it, and what it returns is ranged over several times, in this handshake alone. Every
	// stranger who connects has it asked, and who he is cannot be known yet: a message names no client,
	// it fits the secret of one. So it must answer from memory and at once. Where the clients are in a
	// database, keep a Secrets filled from there.
	Resolve func(conn net.Conn) iter.Seq[*protocol.Client]
	// Others, if not nil, is asked for further candidates when a message has come that is of none of
	// the first: so a caller with many clients can try the likely ones first. Where it reports false, they
	// are too many to be tried now, and the handshake fails with ResultLimited, in the same silence as
	// any other. It is asked once for a connection at most, and must answer at once.
	Others func(conn net.Conn) (iter.Seq[*protocol.Client], bool)
	// Protocols are the formats taken; zero means both. With both, a first byte of 0x01 means v1;
	// with V2 alone an envelope may begin with any byte.
	Protocols Protocol
	// Hint is how envelopes are taken; empty means protocol.HintRoute. It is not on the wire.
	Hint protocol.HintMode
	// Buckets are the envelope sizes taken, in bytes; nil means protocol.DefaultBuckets. Those over
	// MaxFrame are not taken.
	Buckets []int
	// Proof enables the server proof. A client that asks for one fails where it is disabled.
	Proof bool
	// Deadline is when a handshake that has not succeeded fails; zero means DefaultDeadline.
	Deadline time.Duration
	// Window is how far a message's time may be from ours, inclusive; zero means DefaultWindow.
	Window time.Duration
	// MaxFrame is the largest message in bytes; zero means protocol.DefaultMaxFrame.
	MaxFrame int
	// MaxTrials bounds the decryptions tried for one connection; zero means DefaultMaxTrials.
	MaxTrials int
	// Now is the wall clock that messages are judged by; nil means time.Now.
	Now func() time.Time
	// Replay remembers nonces; nil means a MemoryReplay of this Server's own.
	Replay Replay
	// Authorize, if not nil, is asked when everything about the message is verified but its replay.
	// It must call claim last, and use something up (a grant) only if claim returned nil. It returns
	// claim's error as it is, or one of its own to refuse. ctx is the handshake's: one that waits must
	// return when ctx ends, and bound its waiting by Deadline itself.
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

// ErrOptions is what the errors of Check wrap.
var ErrOptions = errors.New("auth: invalid options")

// Check says what is wrong with the options. A handshake of a Server that does not pass fails with
// ResultMisconfigured, in the same silence as any other.
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
	if least := protocol.MinBucket(s.Hint); set.buckets[0] < least {
		return fmt.Errorf("%w: a bucket of %d bytes holds no message; the least is %d", ErrOptions, set.buckets[0], least)
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

// MaxClients is how many clients a handshake can be tried with: with protocol.HintNone MaxTrials for
// the buckets that there are, and with hints math.MaxInt, for they say whom to try.
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

// resolve fills in the defaults.
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

// Handshake authenticates conn as one of s.Clients, or of those that s.Resolve names. On success it has
// read exactly the message, has sent the proof if one was asked for, and has cleared the deadlines that
// it set: the application's bytes are next. On failure it returns an *Error, at the deadline and not
// before, unless ctx ends. It never closes conn. Nobody else may read from conn or set its deadlines
// meanwhile.
func (s *Server) Handshake(ctx context.Context, conn net.Conn) (Peer, error) {
	start, candidates := time.Now(), s.Clients
	if s.Resolve != nil {
		candidates = s.Resolve(conn)
	}
	return s.handshake(ctx, conn, candidates, start)
}
