// Package demo implements `knockgw demo`: it shows what the gateway does,
// between real kernels, and checks every claim as it goes.
//
//	client   ---.
//	             >---  gateway  ---  upstream
//	attacker ---'         |
//	                  the TUN device, with the protected prefixes
//
// Package netlab builds the network out of namespaces without names; they end
// with the process that made them, however it ends. The gateway is the real
// one: `run` of this program, as a separate process in the gateway's namespace,
// because a goroutine may run on any thread and a socket belongs to the
// namespace of the thread that makes it. The clients, the upstream and the
// scanner are in this package, and no other program is needed.
//
// The claims rest on three independent sources: a scanner, whose states are
// those of nmap; a capture of each link, which counts the answers; and the
// gateway's counters. The scanner shares no code with the gateway, and scans an
// address that is not hidden first: a scanner that never gets an answer would
// find everything hidden.
package demo

import (
	"errors"
	"io"
	"time"
)

// TimeLimit is the maximum duration of a demonstration; one takes about 7 s,
// most of them spent waiting for answers that must not come.
const TimeLimit = 30 * time.Second

// ErrCheckFailed means that a check failed. The report says what was expected
// and where.
var ErrCheckFailed = errors.New("a check of the demonstration failed")

// Account is the number of the user and the group that own the gateway's files
// and that the gateway may become: the unprivileged account of most systems. It
// needs no name.
const Account = 65534

// Options are what a demonstration needs from its caller.
type Options struct {
	// Out gets the report, in lines of at most 80 columns, as they are made.
	Out io.Writer
	// Gateway is the command line that runs a gateway in the network namespace
	// in which it is started, without the configuration's path, which comes
	// last. The process logs as slog's TextHandler does, and ends after SIGTERM.
	Gateway []string
}
