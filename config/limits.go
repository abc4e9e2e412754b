package config

import (
	"runtime"
	"time"

	"github.com/knockgw/knockgw/protocol"
)

// The defaults: those of docs/wire-formats.md, and of docs/configuration.md for
// what is not on the wire.
const (
	DefaultMTU            = 1500 // Ethernet's
	DefaultUDPPort        = protocol.DefaultKnockPort
	DefaultWindow         = protocol.DefaultWindow
	DefaultSequenceLength = protocol.DefaultSequenceLength
	DefaultSequenceWindow = protocol.DefaultSequenceWindow
	DefaultSlot           = protocol.DefaultSlot
	DefaultGrantTTL       = protocol.DefaultGrantTTL
	DefaultGrantUses      = 1
	DefaultAuthDeadline   = 3 * time.Second
	DefaultIdle           = 24 * time.Hour // a session left open overnight; what is dead ends sooner
	DefaultDialTimeout    = 5 * time.Second
)

// The defaults of budgets and bans, and what each is meant to let through.
const (
	DefaultGrantsPerClient = 256    // a browser, a backup and a build at once
	DefaultFlowsPerClient  = 4096   // as a source's
	DefaultGrantsPerSource = 1024   // a large office behind one address
	DefaultFlowsPerSource  = 4096   // the same office
	DefaultFlows           = 131072 // with netstack's buffers when idle, some GiB
	DefaultKnocks          = 512    // of up to protocol.MaxKnock bytes: half a MiB
	DefaultBanAfter        = 10     // more than a mistyped secret and a client's retries
	DefaultBanWithin       = 10 * time.Minute
	DefaultBanFor          = time.Hour
)

// The defaults of the audit: some 300 MiB in all, weeks of an ordinary gateway.
const (
	DefaultAuditMiB  = 64
	DefaultAuditKeep = 4
)

// The limits, and why each is where it is.
const (
	version = 1 // of the file's format

	maxFile = 16 << 20 // bytes; 10,000 clients take about one million

	maxClientFile  = 64 << 10 // bytes of a client's own file; all keys with eight secrets take about two thousand
	maxClientFiles = 1 << 16  // files in a directory; to read as many takes seconds

	maxSecrets = 8 // of one client: each is one more to try for a message that may be its

	// Dates: no clock that runs shows one before, and later ones have no spelling in RFC 3339 once their
	// last day is over.
	minYear = 1970
	maxYear = 9998

	maxAuditMiB  = 1 << 20 // a TiB: beyond that somebody has mistaken the unit
	maxAuditKeep = 1000

	maxDevice = 15  // bytes: IFNAMSIZ less its NUL, Linux and the BSDs
	maxSocket = 103 // bytes: sun_path less its NUL, on the BSDs; Linux has 107
	maxName   = 64  // bytes of a service's name, which is a metric's label and a word on command lines

	minMTU   = 576  // RFC 791: what every host must take
	minMTUv6 = 1280 // RFC 8200: the least an IPv6 link may have
	maxMTU   = 65535

	// A window below a second is lost to the two clocks' drift; one of more than five minutes only
	// keeps replay keys.
	minWindow = time.Second
	maxWindow = 5 * time.Minute

	minSequence    = 2 // docs/wire-formats.md, UDP and SYN alike
	maxSequence    = 8 // UDP
	maxSYNSequence = 5

	minDeadline = 100 * time.Millisecond // below the round trip of many a mobile network
	maxDeadline = time.Minute            // a stranger's connection is held for as long

	minGrantTTL = 100 * time.Millisecond // less than a round trip opens for nobody
	maxGrantTTL = 24 * time.Hour         // a door open for longer is no longer hidden
	maxUses     = 65536                  // a number that nobody means to reach

	minIdle = 100 * time.Millisecond // less than a round trip ends every flow
	maxIdle = 7 * 24 * time.Hour     // a flow forgotten by both ends must end some time

	minDial = 100 * time.Millisecond
	maxDial = time.Minute // clients have given up on their SYN by then

	maxShare  = 65536   // grants or flows of one client or source: the ports that one address has
	maxFlows  = 1 << 20 // a table of some hundred MiB, before any flow has a buffer
	minKnocks = 64      // of one source alone, in a burst of parallel connections
	maxKnocks = 65536   // 64 MiB, and by the time that the last is opened its SYN is gone

	maxBanAfter  = 1000                // one who fails as often guesses
	minBanTime   = time.Second         // below, no second failure is in time
	maxBanWithin = 24 * time.Hour      // what is remembered of everybody who failed once
	maxBanFor    = 30 * 24 * time.Hour // addresses change hands

	maxTrials = 64 // docs/wire-formats.md: trial decryptions for one connection in hint mode none
)

// bucketSizes are the envelope's, ascending. (docs/wire-formats.md, TCP envelope v2.)
func bucketSizes() []int { return []int{128, 192, 256, 384, 512} }

// DefaultTUNName is the name of the interface where the file gives none. Linux,
// FreeBSD and Windows take any; macOS numbers its utun interfaces itself, and
// OpenBSD's are tun and a number.
func DefaultTUNName() string { return defaultTUNName(runtime.GOOS) }

func defaultTUNName(system string) string {
	switch system {
	case "darwin":
		return "utun"
	case "openbsd":
		return "tun0"
	default:
		return "knock0"
	}
}
