package client

import (
	"context"
	"net/netip"
	"time"
)

const (
	// suspectTime is what DialContext gives the search for a wrong clock: enough for
	// one that is off by some minutes or three hours, on a path that loses little.
	suspectTime = 10 * time.Second

	// suspectRounds is how often a wrong clock is confirmed, and suspectDoubts how
	// many knocks with the right stamp for each with the found one. On a path that
	// loses half of all probes, losses alone look like one round in one case of
	// seven, and like all of them in one of 2000, where they have led to a wrong
	// offset before.
	suspectRounds = 4
	suspectDoubts = 2
)

// suspectClock is the offset that explains a silence, or 0 where there is none, or
// none that is certain: who is told of a wrong clock will set it.
func (d *Dialer) suspectClock(ctx context.Context, targets []netip.AddrPort) time.Duration {
	if d.canAskTheTime() != nil {
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, suspectTime)
	defer cancel()
	search := d.newClockSearch(targets)
	offset, err := search.find(ctx)
	certain := false
	defer func() {
		if !certain {
			search.endWithTheTruth(ctx)
		}
	}()
	switch {
	case err != nil, offset.Abs() <= search.window/2:
		return 0
	case search.width < 2*search.window-search.window/2:
		return 0 // that is no window to both sides, but what losses have left of one
	case d.NoAuth && search.width > 2*search.window+search.window/2:
		return 0 // some may have been let in by another's grant, and no authentication shows it
	}
	if certain = search.confirmed(ctx, offset); !certain { // else the last that was refused had this host's stamp
		return 0
	}
	return offset
}

// confirmed tells whether the gate takes knocks of a clock that is set right by
// offset, and none of this host's. Both are asked by turns, so that what a path
// loses is lost of both, and each round counts in which the one was taken and the
// other one was not. A round in which neither was shows that packets are lost, and
// costs one more. One knock of this host's clock that is taken ends it.
func (c *clockSearch) confirmed(ctx context.Context, offset time.Duration) bool {
	for rounds, want := 0, suspectRounds; rounds < want; {
		for range suspectDoubts {
			if taken, err := c.probe(ctx, c.targets[0], 0); taken || err != nil {
				return false
			}
		}
		switch taken, err := c.probe(ctx, c.targets[0], -offset); {
		case err != nil:
			return false
		case taken:
			rounds++
		default:
			want++
		}
	}
	return true
}
