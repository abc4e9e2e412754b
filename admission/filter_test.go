//go:build linux

package admission

import (
	"testing"

	"github.com/knockgw/knockgw/filter"
	"github.com/knockgw/knockgw/filter/filtertest"
)

// The filter in the kernel and the gate are to agree: what the one drops, the
// other would drop for the same reason. So in a filtered world every packet of
// whatever test goes through the filter's program first, and world.admit compares.

// filterOptions say what the filter is to know of a policy.
func filterOptions(p *Policy) filter.Options {
	o := filter.Options{
		Flows: 1000, Sources: 1000, Expected: p.Expected(),
		Policy: filter.Policy{KnockPort: p.KnockPort(), Legacy: p.Legacy()},
	}
	for _, s := range p.Services() {
		o.Policy.Services = append(o.Policy.Services, filter.Service{
			Listen: s.Listen, Port: s.Port, Open: s.Open(), SYN: s.Methods&familiesSYN != 0,
			UDP: s.Methods&familiesV1 != 0, UDPv2: s.Methods&FamilyUDPv2 != 0,
		})
	}
	return o
}

// tidy is a test at whose end something can be done.
type tidy interface {
	failer
	Cleanup(func())
}

// newFiltered is newWorld with a filter in front of the gate.
func newFiltered(t tidy, change ...func(*Options)) (*world, *filtertest.Filter) {
	t.Helper()
	var front *filtertest.Filter
	w := newWorld(t, append(change, func(o *Options) {
		f, err := filtertest.New(filterOptions(o.Policy))
		if err != nil {
			t.Fatalf("%v", err)
		}
		t.Cleanup(func() { _ = f.Close() })
		front, o.Mirror = f, f
	})...)
	w.front = func(b []byte) (string, bool) {
		w.Helper()
		front.Until(w.options().Mono())
		reason, drops, err := front.Drops(b)
		if err != nil {
			w.Fatalf("%v", err)
		}
		return reason, drops
	}
	return w, front
}

// What a stranger sends is dropped by the filter already, unless it looks like a
// knock or its checksum is what is wrong with it.
func TestTheFilterDropsWhatTheGateDrops(t *testing.T) {
	filtertest.Require(t)
	for name, change := range map[string][]func(*Options){
		"v1": nil, "every method": {every()}, "legacy": {every(legacy)},
	} {
		everywhere(func(addr string) {
			w, _ := newFiltered(t, change...)
			for _, c := range refusals(w.at(addr)) {
				if _, dropped := w.front(c.b); !dropped && c.name != "a bad checksum" {
					t.Errorf("%s, %s: %s passes the filter", name, addr, c.name)
				}
				w.want(c.b, c.want)
			}
			w.empty()
		})
	}
}
