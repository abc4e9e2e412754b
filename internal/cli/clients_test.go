package cli

import (
	"strings"
	"testing"

	"github.com/knockgw/knockgw/internal/control"
)

func TestClientsDescribesStaleKnocks(t *testing.T) {
	behind, ahead := -21600.0, 0.012
	stale := &control.Attempt{Result: staleResult, ClockDifference: &behind}
	for _, c := range []struct {
		seen *control.Attempt
		want string
	}{
		{nil, "the client's clock is 6h0m0s behind the gateway's"},
		{&control.Attempt{}, "the client's clock is 6h0m0s behind the gateway's"}, // a SYN, which says no time
		{&control.Attempt{ClockDifference: &ahead}, ": 12ms)"},
	} {
		if got := describeFailure(stale, c.seen); !strings.HasSuffix(got, c.want) {
			t.Errorf("%q, want it to end with %q", got, c.want)
		}
	}
	if got := describeFailure(&control.Attempt{Result: staleResult}, nil); strings.Contains(got, "clock") {
		t.Errorf("a difference that was not measured: %q", got)
	}
}
