// Package doctor examines whether a host can run the gateway that a
// configuration describes, and says how to fix what prevents it.
//
// It changes nothing. The only trace on other hosts is a connection to each
// upstream, which is closed at once. All queries go through a Host, a struct of
// functions, so that each check can be tested with a simulated host. A check
// whose function the system does not provide reports that it was not made.
//
// Each check has a file of its own, check_*.go, and a line in the list that
// Examine runs.
package doctor

import (
	"context"
	"slices"

	"github.com/knockgw/knockgw/config"
)

// A Level is the severity of a Finding.
type Level string

// The levels. With a Fail the gateway does not start, or admits no client.
const (
	OK   Level = "ok"
	Warn Level = "warn"
	Fail Level = "fail"
)

// A Finding is the result of one check, in a line each.
type Finding struct {
	Check   string `json:"check"` // the name of the check
	Level   Level  `json:"level"`
	Message string `json:"message"`
	Fix     string `json:"fix,omitempty"` // a command, or what to do; empty with OK
}

// Options describe the gateway to examine the host for.
type Options struct {
	Config *config.Config
	File   string // the configuration's path
	// Account is the one that the gateway runs as and that needs access to its
	// files.
	Account Account
	// RunAs calls f with the account's rights to files. Optional: without it,
	// the permission bits are evaluated.
	RunAs func(f func() error) error
	// Load loads the configuration, to check that the account can. Optional.
	Load func() error
	// MissingAccount is the account that the gateway would switch to and that
	// does not exist on this system; otherwise "".
	MissingAccount string
	// Existing reports that the interface is prepared by the operator (knockgw
	// run
	// --prepared): neither it nor its routes belong to knockgw.
	Existing bool
	// SkipUpstreams skips the connections to upstreams. Their names are resolved
	// all the same.
	SkipUpstreams bool
}

// A check examines one aspect of the host and reports at least one finding,
// unless it does not apply.
type check struct {
	name string
	run  func(ctx context.Context, c *checker)
}

// checks are all checks. Earlier ones may explain the findings of later ones.
func checks() []check {
	return []check{
		{"gateway", checkGateway}, // first: sets checker.running
		{"system", checkSystem},
		{"account", checkAccount},
		{"TUN device", checkTUNDevice},
		{"prepared device", checkExistingDevice},
		{"privileges", checkPrivileges},
		{"filter", checkFilter},
		{"forwarding", checkForwarding},
		{"IPv6", checkIPv6},
		{"rp_filter", checkRPFilter},
		{"routes", checkRoutes},
		{"host ports", checkHostPorts},
		{"bypass", checkBypass},
		{"ingress route", checkIngressRoute},
		{"firewall", checkFirewall},
		{"network manager", checkNetworkManager},
		{"MTU", checkMTU},
		{"upstreams", checkUpstreams},
		{"metrics.listen", checkMetrics},
		{"clock", checkClock},
		{"time zones", checkTimeZones},
		{"files", checkFiles},
		{"descriptors", checkDescriptors},
		{"memory", checkMemory},
	}
}

// Examine runs all checks and returns their findings in order.
func Examine(ctx context.Context, host *Host, o Options) []Finding {
	e := &examination{Options: o, host: host}
	for _, check := range checks() {
		check.run(ctx, &checker{examination: e, check: check.name})
	}
	return e.findings
}

// Failed reports whether the findings include a Fail.
func Failed(all []Finding) bool {
	return slices.ContainsFunc(all, func(f Finding) bool { return f.Level == Fail })
}
