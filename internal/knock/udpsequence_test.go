package knock

import (
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/policy"
)

func TestUDPSequencesAreBounded(t *testing.T) {
	u := newUDPSequences()
	o := policy.Sequence{Length: 3, Window: policy.DefaultSequenceWindow}
	part := func(n int) *attempt {
		a := &attempt{client: &policy.Client{ID: "alice"}, part: &udpPart{}}
		a.Src, a.Service = at(n), &policy.Service{MACPort: 1}
		return a
	}
	for n := 0; u.inFlight < MaxUDPSequences; n++ {
		if got := u.add(part(n), 0, o); got != Incomplete {
			t.Fatal(got)
		}
	}
	if got := u.add(part(1<<16), 0, o); got != LimitReached {
		t.Errorf("one too many in all: %v", got)
	}
	u.sweep(time.Minute)
	if len(u.byKey)+len(u.bySource)+u.inFlight != 0 {
		t.Errorf("left: %d, of %d sources, %d in flight", len(u.byKey), len(u.bySource), u.inFlight)
	}
}
