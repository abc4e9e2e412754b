// Package control is the control socket of a running gateway: HTTP and JSON on a
// Unix socket, and the client that the command line uses.
//
// Access is controlled by the socket's mode, 0660: root, the gateway's account
// and the members of the socket's group. On Linux the credentials and groups of
// the peer are checked as well (SO_PEERCRED, SO_PEERGROUPS), so that a wrong
// mode does not open the socket. The size and duration of requests and the
// number of connections are limited. No response contains a secret.
//
//	GET  /v1/status   Status
//	POST /v1/reload   load the configuration again and apply it: Result
//	POST /v1/check    what that would do, without doing it: Result
//	GET  /v1/flows    Flows; ?measure=1s measures rates
//	GET  /v1/grants   Grants
//	GET  /v1/clients  Clients, with their last successful and failed attempt
//	GET  /v1/bans     Bans; DELETE /v1/bans?source=ADDR removes bans: Unbanned
//	POST /v1/revoke   Revocation: end flows and grants: Revoked
//	GET  /v1/trace    TraceEvents of ?from=ADDR, one per line, until the client closes
//	GET  /v1/capture  pcapng of packets that match ?filter=, until the client closes
//
// The body of a response other than 200 is Problems.
package control

import (
	"errors"
	"strings"
	"time"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/errlist"
)

// Status is the status of a gateway.
type Status struct {
	Version string    `json:"version"` // of the running program
	Commit  string    `json:"commit"`  // of its sources; empty if unknown
	Dirty   bool      `json:"dirty"`   // the sources differed from the commit
	Go      string    `json:"go_version"`
	PID     int       `json:"pid"`
	Since   time.Time `json:"since"` // start of the process
	Ready   bool      `json:"ready"` // clients can connect, as far as this host can tell
	// Problems are the reasons why it runs but is not ready, as in /readyz.
	Problems []string `json:"problems"`
	Config   string   `json:"config,omitempty"` // file, if there is one

	Services int `json:"services"`
	Clients  int `json:"clients"`
	Flows    int `json:"flows"` // active
	Grants   int `json:"grants"`

	Reloaded       time.Time `json:"reloaded,omitzero"` // last successful reload
	ReloadFailed   bool      `json:"reload_failed"`     // the last reload was rejected
	PendingRestart []string  `json:"pending_restart"`   // keys that need a restart
}

// Result is the result of a reload or a check.
type Result struct {
	Config   string         `json:"config,omitempty"` // file that was read, if there is one
	Applied  bool           `json:"applied"`
	Changes  config.Changes `json:"changes"`
	Warnings []string       `json:"warnings"` // about the file, and about what needs a restart
	Flows    int            `json:"flows_ended"`
	Grants   int            `json:"grants_ended"`
}

// Problems are the reasons why a request failed.
type Problems struct {
	Problems []string `json:"problems"`
}

// RefusedError reports that the configuration was rejected: nothing has changed.
type RefusedError struct{ Problems []string }

// Error returns the problems, one per line; those of a file begin with its name
// and line.
func (e *RefusedError) Error() string { return strings.Join(e.Problems, "\n") }

// Errors.
var (
	// ErrNotRunning reports that no gateway listens at the socket.
	ErrNotRunning = errors.New("no gateway is running")
	// ErrUnavailable reports that a gateway is starting or stopping.
	ErrUnavailable = errors.New("the gateway is starting or stopping; try again")
	// ErrInUse reports that another gateway listens at the socket.
	ErrInUse = errors.New("another gateway listens there")
)

// problems returns the lines of an error, one for each that was joined.
func problems(err error) (lines []string) {
	for _, e := range errlist.Errors(err) {
		lines = append(lines, e.Error())
	}
	return lines
}
