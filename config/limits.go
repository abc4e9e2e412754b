package config

import (
	"runtime"
	"time"

	"github.com/knockgw/knockgw/protocol"
)

// The defaults of docs/wire-formats.md, and for settings that are not on the
// wire, those of docs/configuration.md.
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
	DefaultIdle           = 24 * time.Hour // a session left open overnight; dead connections end sooner
	DefaultDialTimeout    = 5 * time.Second
)

// The defaults of limits and bans, with the load that each should allow.
const (
	DefaultGrantsPerClient = 256    // a browser, a backup and a build at once
	DefaultFlowsPerClient  = 4096   // as for a source
	DefaultGrantsPerSource = 1024   // a large office behind one address
	DefaultFlowsPerSource  = 4096   // the same office
	DefaultFlows           = 131072 // some GiB for netstack's buffers of idle flows
	DefaultKnocks          = 512    // of up to protocol.MaxKnock bytes each: half a MiB
	DefaultBanAfter        = 10     // more than the retries of a client with a mistyped secret
	DefaultBanWithin       = 10 * time.Minute
	DefaultBanFor          = time.Hour
)

// The defaults of the audit log: about 300 MiB, which lasts weeks for an
// ordinary gateway.
const (
	DefaultAuditMiB  = 64
	DefaultAuditKeep = 4
)

// The limits, with their reasons.
const (
	version = 1 // of the file's format

	maxFile = 16 << 20 // bytes; 10,000 clients take about one million

	maxClientFile  = 64 << 10 // bytes of a client file; all keys with eight secrets take about two thousand
	maxClientFiles = 1 << 16  // files in a directory; reading them takes seconds

	maxSecrets = 8 // of a client: each is one more trial for a message that may be the client's

	// Years of dates: no running clock shows an earlier one, and the end of the
	// last day of a later one cannot be written in RFC 3339.
	minYear = 1970
	maxYear = 9998

	maxAuditMiB  = 1 << 20 // a TiB: a larger number is in the wrong unit
	maxAuditKeep = 1000

	maxDevice = 15  // bytes: IFNAMSIZ without the NUL, on Linux and the BSDs
	maxSocket = 103 // bytes: sun_path without the NUL, on the BSDs; Linux has 107
	maxName   = 64  // bytes of a service's name, which is a metric label and a word on command lines

	minMTU   = 576  // RFC 791: what every host must accept
	minMTUv6 = 1280 // RFC 8200: the minimum of IPv6
	maxMTU   = 65535

	// A window below a second is less than the drift of two clocks; one of more
	// than five minutes only keeps more replay keys.
	minWindow = time.Second
	maxWindow = 5 * time.Minute

	minSequence    = 2 // docs/wire-formats.md, UDP and SYN alike
	maxSequence    = 8 // UDP
	maxSYNSequence = 5

	minDeadline = 100 * time.Millisecond // less than the round-trip time of many mobile networks
	maxDeadline = time.Minute            // an unauthorized connection is kept for as long

	minGrantTTL = 100 * time.Millisecond // less than a round trip is useless
	maxGrantTTL = 24 * time.Hour         // a port that is open for longer is not hidden
	maxUses     = 65536                  // effectively unlimited

	minIdle = 100 * time.Millisecond // less than a round trip would end every flow
	maxIdle = 7 * 24 * time.Hour     // a flow that both ends forgot must end eventually

	minDial = 100 * time.Millisecond
	maxDial = time.Minute // clients have given up by then

	maxShare  = 65536   // grants or flows of a client or source: the number of ports of an address
	maxFlows  = 1 << 20 // some hundred MiB for the table alone, without buffers
	minKnocks = 64      // a burst of parallel connections of one source
	maxKnocks = 65536   // 64 MiB; the SYN of the last one has timed out by the time it is opened

	maxBanAfter  = 1000                // a source that fails more often is guessing
	minBanTime   = time.Second         // a shorter time never includes a second failure
	maxBanWithin = 24 * time.Hour      // how long every source with a failure is remembered
	maxBanFor    = 30 * 24 * time.Hour // addresses are reassigned

	maxTrials = 64 // trial decryptions for one connection in hint mode none (docs/wire-formats.md)
)

// bucketSizes returns the sizes of an envelope, ascending
// (docs/wire-formats.md, TCP envelope v2).
func bucketSizes() []int { return []int{128, 192, 256, 384, 512} }

// DefaultTUNName returns the default name of the interface. Linux, FreeBSD and
// Windows accept any name; macOS numbers its utun interfaces itself, and on
// OpenBSD they are named tun and a number.
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
