//go:build linux

package load

import (
	"io"
	"net/netip"
	"slices"
	"time"
)

// RoundTrips sends single bytes over one connection and waits for each to come
// back.
type RoundTrips struct {
	Target netip.AddrPort
	Count  int
	Warmup int // more of them before, which do not count
}

// Trips is how long round trips took, in order of their length.
type Trips []time.Duration

// Quantile is the time in which a share q of the round trips was done.
func (t Trips) Quantile(q float64) time.Duration { return t[min(len(t)-1, int(q*float64(len(t))))] }

// Run implements Task; the result is Trips.
func (r *RoundTrips) Run(io.Writer) (any, error) {
	s, err := dial(netip.Addr{}, r.Target)
	if err != nil {
		return nil, err
	}
	trips, b := make(Trips, 0, r.Count), make([]byte, 1)
	for n := range r.Warmup + r.Count {
		began := time.Now()
		if err := s.ask(b); err != nil {
			return nil, err
		}
		if n >= r.Warmup {
			trips = append(trips, time.Since(began))
		}
	}
	slices.Sort(trips)
	return trips, s.close()
}
