package client

import (
	"fmt"
	"time"

	"github.com/knockgw/knockgw/internal/buildinfo"
)

// clockSlack is how far a clock may be behind the time of the build before it is
// certainly wrong: the clock of the host that built it may have been ahead.
const clockSlack = 24 * time.Hour

// CheckClock returns an error if now is before the time at which the program
// was built: the clock is then wrong, and a gateway rejects every knock of this
// host. Hosts without a battery for their clock start in 1970.
func CheckClock(now time.Time) error {
	built := buildinfo.Time()
	if !now.Before(built.Add(-clockSlack)) {
		return nil
	}
	return fmt.Errorf("this host's clock is wrong: it says %s, and this program was built on %s; set it (NTP)",
		now.UTC().Format("2006-01-02 15:04 UTC"), built.UTC().Format(time.DateOnly))
}
