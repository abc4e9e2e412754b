package cli

import (
	"fmt"
	"io"
	"net/netip"
	"slices"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/bypass"
	"github.com/knockgw/knockgw/internal/termsafe"
)

// hostReport is what check reports about this host.
type hostReport struct {
	Examined bool             `json:"examined"`
	Running  bool             `json:"running"`         // evaluated as it is; otherwise as after a start
	Error    string           `json:"error,omitempty"` // why it was not examined
	Problems []bypass.Problem `json:"problems"`
}

// examineHost evaluates this host: as it is if a gateway runs on the file, and
// otherwise with what a start would add.
func examineHost(p *bypass.Protected, running bool) *hostReport {
	r := &hostReport{Running: running, Problems: []bypass.Problem{}}
	s, err := bypass.Read(p)
	if err != nil {
		r.Error = err.Error()
		return r
	}
	r.Examined = true
	if !running {
		r.Problems = append(r.Problems, bypass.OwnAddresses(s, p)...)
		s = s.With(p)
	}
	r.Problems = append(r.Problems, bypass.Evaluate(s, p)...)
	return r
}

// exposure returns what unauthorized hosts see of a service, as far as known.
func (r *hostReport) exposure(row config.Row) string {
	if row.Visible {
		return "an open port"
	}
	if !r.Examined {
		return "not examined"
	}
	for _, p := range r.Problems {
		if p.Severity == bypass.Open && affects(p.Subject, row.Listen) {
			return "this host (see below)"
		}
	}
	if slices.ContainsFunc(r.Problems, func(p bypass.Problem) bool { return p.Severity == bypass.Unknown }) {
		return "unknown (see below)"
	}
	return "nothing"
}

// affects reports whether a problem with subject affects a service that listens
// at listen. A subject other than a prefix, such as a hidden port, affects all.
func affects(subject, listen string) bool {
	protected, err := netip.ParsePrefix(subject)
	if err != nil {
		return true
	}
	at, err := netip.ParseAddrPort(listen)
	return err != nil || protected.Contains(at.Addr())
}

// print prints the problems as text.
func (r *hostReport) print(w io.Writer) {
	if !r.Examined {
		fmt.Fprintf(w, "\nThis host was not examined: %s\n", termsafe.Text(r.Error))
		return
	}
	if len(r.Problems) == 0 {
		return
	}
	if r.Running {
		fmt.Fprintln(w, "\nOn this host, while the gateway runs:")
	} else {
		fmt.Fprintln(w, "\nOn this host, once the gateway starts:")
	}
	for _, p := range r.Problems {
		fmt.Fprintf(w, "  %s: %s: %s\n      -> %s\n", p.Severity, p.Subject, p.Message, p.Remedy)
	}
}
