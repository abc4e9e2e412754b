package knock

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/knockgw/knockgw/packet"
)

// at returns the nth of many addresses.
func at(n int) (a packet.Addr) {
	a[0], a[13], a[14], a[15] = 0xfd, byte(n>>16), byte(n>>8), byte(n)
	return a
}

func TestKnownSourcesAreBounded(t *testing.T) {
	known := newKnownSources()
	for n := range MaxKnownSources + 1000 {
		known.Record(at(n), "alice", time.Duration(n))
	}
	recent := 0
	for n := MaxKnownSources; n < MaxKnownSources+1000; n++ {
		if known.Known(at(n), time.Duration(n)) {
			recent++
		}
	}
	if total := known.Len(); total != MaxKnownSources || recent < 990 {
		t.Errorf("%d sources are remembered, %d of the latest thousand", total, recent)
	}

	const batch = 256
	for range 10 * MaxKnownSources / batch {
		known.Sweep(batch, KnownTime+time.Second)
	}
	if n := known.Len(); n > MaxKnownSources/100 {
		t.Errorf("%d are left after an hour", n)
	}
}

func TestKnownSourcesKeepLatestClients(t *testing.T) {
	known := newKnownSources()
	for n := range 20 {
		known.Record(at(1), fmt.Sprint(n), 0)
		known.Record(at(1), "often", 0)
	}
	want := []string{"often", "19", "18", "17", "16", "15", "14", "13"}
	if got := known.Clients(at(1)); !slices.Equal(got[:], want) {
		t.Errorf("%v", got)
	}
}
