//go:build linux

package netns_test

import (
	"testing"

	"github.com/knockgw/knockgw/test/netns/lab"
)

// attempts is how often a client knocks and connects in one breath.
const attempts = 300

// The knock is decided by a worker while the SYN is right behind it. Losing
// that race once costs the client a second, so it shows as a SYN sent again.
func TestKnockThenSYNNeverWaits(t *testing.T) {
	t.Parallel()
	l, site, s, all := site(t)
	site.Start(t)
	for _, d := range all {
		if !d.knocks() {
			continue
		}
		t.Run(d.name, func(t *testing.T) {
			capture := l.Client.Capture(lab.Link)
			failed := 0
			for range attempts {
				if err := d.visit(t.Context(), alice(l.Client), s.Greeting); err != nil {
					failed++
					t.Log(err)
				}
			}
			if failed > 0 {
				t.Errorf("%d of %d attempts failed", failed, attempts)
			}
			if n := lab.RetransmittedSYNs(capture.Stop()); n > 0 {
				t.Errorf("%d SYNs were sent again", n)
			}
		})
	}
}
