//go:build linux

// Package load generates what the measurements of test/bench need and no
// standard tool offers: short connections, round trips, idle flows and the
// server for all of these, a flood, and a long link that loses packets. Each is
// a task that a process of its own does, so that it stands on its host with
// nothing of the test's, and what it costs is not the test's:
//
//	test --Start(task)--> this package's Main, in the network namespace of a host --JSON--> test
//
// The sockets are blocking and on threads of their own: between the kernel's
// wake-up and the next byte there is no poller and no scheduler but the
// kernel's. Their cost would hide part of the measured difference.
package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// RequestSize is the size in bytes of the request of one short connection, and
// of its reply.
const RequestSize = 1 << 10

// timeout is how long anything here waits for an answer.
const timeout = 5 * time.Second

// errTask says that Main was asked for something else than it can do.
var errTask = errors.New("no such task")

// A Task is what a process is started for. Its result is what Main prints.
type Task interface {
	// Run does the task and returns its result, or what went wrong. It says on
	// out what the starter has to wait for, if there is anything.
	Run(out io.Writer) (result any, err error)
}

// tasks has a new one of each task, by its name on the command line.
func tasks() map[string]Task {
	all := make(map[string]Task)
	for _, t := range []Task{new(Echo), new(Connections), new(RoundTrips), new(Idle), new(Flood), new(Link)} {
		all[Name(t)] = t
	}
	return all
}

// Name is a task's name on the command line.
func Name(t Task) string { return fmt.Sprintf("%T", t) }

// untilAsked is a context that ends when the starter sends SIGTERM: by then it
// has seen enough, and wants the result.
func untilAsked() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), unix.SIGTERM)
}

// Ready is the line by which a task says that it has begun, or has got where it
// stays.
const Ready = "ready"

// Main does the task that the arguments tell: its name, and the task itself in
// JSON. It prints the result on out, in JSON.
func Main(args []string, out io.Writer) error {
	if len(args) != 2 {
		return fmt.Errorf("%w: want a name and a task, got %q", errTask, args)
	}
	t, ok := tasks()[args[0]]
	if !ok {
		return fmt.Errorf("%w: %q", errTask, args[0])
	}
	if err := json.Unmarshal([]byte(args[1]), t); err != nil {
		return fmt.Errorf("read the task %s: %w", args[0], err)
	}
	result, err := t.Run(out)
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	return json.NewEncoder(out).Encode(result)
}
