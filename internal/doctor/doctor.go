// Package doctor looks at a host and says whether the gateway that a
// configuration describes could do its work there, and what to type where not.
//
// It changes nothing, on the host or anywhere else; the most that others notice
// is a connection to each upstream, which is closed at once. What the system says
// comes from a Host, a struct of functions, so that every check can be tried
// against a host that does not exist. A check whose function the system does not
// have is not made, and says so.
package doctor

import (
	"context"
	"fmt"

	"github.com/knockgw/knockgw/config"
)

// A Level is how bad a Finding is.
type Level string

// The levels. With a Fail the gateway does not start, or lets nobody in.
const (
	OK   Level = "ok"
	Warn Level = "warn"
	Fail Level = "fail"
)

// A Finding is what one look at the host has brought, in a line each.
type Finding struct {
	Check   string `json:"check"` // what was looked at
	Level   Level  `json:"level"`
	Message string `json:"message"`
	Fix     string `json:"fix,omitempty"` // what to type, or to do; empty with OK
}

// Options say for whom is looked, and at what.
type Options struct {
	Config *config.Config
	File   string // the configuration's path
	// Account is the one that the gateway runs as, where its files are concerned.
	Account Account
	// As calls f with the account's rights to files. Optional: without it the bits of their modes are looked at.
	As func(f func() error) error
	// Load loads the configuration, to see whether the account can. Optional.
	Load func() error
	// NoAccount is the name of the one that the gateway would become and that the system does not have; usually "".
	NoAccount string
	// Prepared tells that the interface is one that was prepared (knockgw run --prepared): nothing of it, and no route,
	// is knockgw's.
	Prepared bool
	// SkipUpstreams leaves out connections to upstreams. Names are resolved all the same.
	SkipUpstreams bool
}

// examination is one examination under way.
type examination struct {
	Options
	host     *Host
	running  bool // a gateway on this configuration
	findings []Finding
}

// Examine makes every check, in an order in which what is found first may explain
// what comes later.
func Examine(ctx context.Context, host *Host, o Options) []Finding {
	e := &examination{Options: o, host: host}
	for _, check := range []func(context.Context){
		e.gateway, e.system, e.account, e.device, e.prepared, e.privileges, e.filter,
		e.forwarding, e.family6, e.sources, e.routes, e.local, e.bypass, e.arrivals, e.firewall, e.clears, e.mtu,
		e.upstreams, e.metrics, e.clock, e.zones, e.files, e.descriptors, e.memory,
	} {
		check(ctx)
	}
	return e.findings
}

// Failed tells whether there is a Fail among the findings.
func Failed(all []Finding) bool {
	for _, f := range all {
		if f.Level == Fail {
			return true
		}
	}
	return false
}

func (e *examination) ok(check, found string, args ...any) {
	e.findings = append(e.findings, Finding{Check: check, Level: OK, Message: fmt.Sprintf(found, args...)})
}

// bad notes what is to be mended. The remedy comes first: it has no arguments.
func (e *examination) bad(level Level, check, mend, found string, args ...any) {
	e.findings = append(e.findings, Finding{Check: check, Level: level, Message: fmt.Sprintf(found, args...), Fix: mend})
}

// unknown notes that a check could not be made.
func (e *examination) unknown(check string, err error) {
	e.bad(Warn, check, "look yourself, or ask again as root", "not checked: %v", err)
}

// unchecked notes that this system has no answer to a check.
func (e *examination) unchecked(check string) {
	e.bad(Warn, check, "look yourself: see docs/host-modes.md", "not checked on %s", e.host.System)
}

// learn asks the host something, and notes where it has no answer.
func learn[T any](e *examination, check string, ask func() (T, error)) (answer T, ok bool) {
	if ask == nil {
		e.unchecked(check)
		return answer, false
	}
	answer, err := ask()
	if err != nil {
		e.unknown(check, err)
	}
	return answer, err == nil
}

// families tells which families have something to protect.
func (e *examination) families() (v4, v6 bool) {
	for _, r := range e.Config.TUN.Routes {
		v4, v6 = v4 || r.Addr().Is4(), v6 || r.Addr().Is6()
	}
	for _, p := range e.Config.TUN.Local {
		v4, v6 = v4 || p.Addr().Is4(), v6 || p.Addr().Is6()
	}
	return v4, v6
}
