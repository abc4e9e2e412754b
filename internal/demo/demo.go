// Package demo is the laboratory behind `knockgw demo`: it shows what the
// gateway is for, between real kernels, and proves every claim as it goes.
//
//	client   ---.
//	             >---  gateway  ---  upstream
//	attacker ---'         |
//	                  the TUN device, with the protected prefixes
//
// Each of the four is a network namespace without a name, and each line is a
// veth pair; both are gone with the process that made them, however it ends.
// The gateway is the real one: this very program's `run`, as a process of its
// own in the gateway's namespace, because a goroutine may run on any thread and
// a socket belongs to the namespace of the thread that makes it. Clients,
// upstream and scanner are here, and no other program is needed.
//
// What is claimed rests on three witnesses that know nothing of each other: a
// scanner, whose states are nmap's; a capture of each link, which counts what
// came back; and the gateway's own counters. The scanner shares no code with
// the gateway, and scans something ordinary first: one that never gets an
// answer would find everything hidden.
package demo

import (
	"errors"
	"io"
	"time"
)

// TimeLimit is how long a demonstration may take; one takes about 7 s, most of
// which is waiting for answers that must not come.
const TimeLimit = 30 * time.Second

// ErrEvidence says that the gateway did not do what it is for. The report says
// what was expected where.
var ErrEvidence = errors.New("the evidence is not as it should be")

// Account is the number of the user and of the group that the gateway's files
// belong to, and that the gateway may become: nobody's on most systems. It need
// have no name.
const Account = 65534

// Options are what a demonstration needs from its caller.
type Options struct {
	// Out gets the report, in lines of at most 80 columns, as it comes about.
	Out io.Writer
	// Gateway is the command line that runs a gateway in the network namespace
	// in which it is started, without the configuration's path, which comes
	// last. The process logs as slog's TextHandler does, and ends upon SIGTERM.
	Gateway []string
}
