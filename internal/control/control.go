// Package control is the running gateway's ear for its operator: HTTP and JSON on
// a unix socket, and the client that the command line uses.
//
// Who may speak to it is a matter of the file: its mode is 0660, so root, the
// gateway's own user and the members of the socket's group get through. On Linux
// the kernel is asked as well who is at the other end and in which groups
// (SO_PEERCRED, SO_PEERGROUPS), so that a mistake with a mode opens nothing. What a
// client sends and how long it may take are bounded, and so is the number of
// clients. No answer has a secret in it.
//
//	GET  /v1/status   Status
//	POST /v1/reload   load the configuration anew and put it in force: Result
//	POST /v1/check    what that would do, without doing it: Result
//	GET  /v1/flows    Flows; ?measure=1s measures rates
//	GET  /v1/grants   Grants
//	GET  /v1/clients  Clients: when they were last seen, and why they last failed
//	GET  /v1/bans     Bans; DELETE /v1/bans?source=ADDR ends them: Pardoned
//	POST /v1/revoke   Revocation: end flows and grants: Revoked
//	GET  /v1/trace    TraceEvents of ?from=ADDR, a line each, until the client goes
//	GET  /v1/capture  pcapng of what fits ?filter=, until the client goes
//
// An answer other than 200 is a Problems.
package control

import (
	"errors"
	"strings"
	"time"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/errlist"
)

// Status is what a gateway says of itself.
type Status struct {
	Version string    `json:"version"` // of the program that runs
	Commit  string    `json:"commit"`  // of its sources; empty if it is not known
	Dirty   bool      `json:"dirty"`   // they were not those of the commit
	Go      string    `json:"go_version"`
	PID     int       `json:"pid"`
	Since   time.Time `json:"since"` // when it was started
	Ready   bool      `json:"ready"` // clients get in, as far as the host's network is concerned
	// Problems are why it is not, while it runs: what /readyz says of device and routes.
	Problems []string `json:"problems"`
	Config   string   `json:"config,omitempty"` // the file, if it has one

	Services int `json:"services"`
	Clients  int `json:"clients"`
	Flows    int `json:"flows"` // being served
	Grants   int `json:"grants"`

	Reloaded       time.Time `json:"reloaded,omitzero"` // when a configuration was last put in force by a reload
	ReloadFailed   bool      `json:"reload_failed"`     // the last reload was refused
	PendingRestart []string  `json:"pending_restart"`   // keys that wait for a restart
}

// Result is what a reload did, or would do.
type Result struct {
	Config   string         `json:"config,omitempty"` // the file that was read, if it was one
	Applied  bool           `json:"applied"`
	Changes  config.Changes `json:"changes"`
	Warnings []string       `json:"warnings"` // of the file, and of what the gateway falls short of until a restart
	Flows    int            `json:"flows_ended"`
	Grants   int            `json:"grants_ended"`
}

// Problems are why a request was not done, each a line.
type Problems struct {
	Problems []string `json:"problems"`
}

// RefusedError says that the new configuration was refused: nothing has changed.
type RefusedError struct{ Problems []string }

// Error is the problems, one a line: a file's with its name and line.
func (e *RefusedError) Error() string { return strings.Join(e.Problems, "\n") }

// Errors.
var (
	// ErrNotRunning says that no gateway is at the socket.
	ErrNotRunning = errors.New("no gateway is running")
	// ErrUnavailable says that a gateway is not ready yet, or is stopping.
	ErrUnavailable = errors.New("the gateway is starting or stopping; try again")
	// ErrInUse says that a running gateway has the socket already.
	ErrInUse = errors.New("another gateway answers there")
)

// problems is an error as Problems has it, a line for each that was joined.
func problems(err error) (lines []string) {
	for _, e := range errlist.Errors(err) {
		lines = append(lines, e.Error())
	}
	return lines
}
