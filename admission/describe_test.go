package admission

import (
	"slices"
	"testing"

	"github.com/knockgw/knockgw/internal/knock"
)

func TestDescriptionsAreComplete(t *testing.T) {
	for r := range reasonCount {
		if Reason(r).Description() == "" {
			t.Errorf("%v has no words", Reason(r))
		}
	}
	for r := range knock.NumResults {
		if knock.Result(r).Description() == "" {
			t.Errorf("%v has no words", knock.Result(r))
		}
	}
}

func TestReasonNamesMatchStats(t *testing.T) {
	var counted []string
	for _, c := range newHarness(t).gate.Stats().Packets {
		counted = append(counted, c.Reason)
	}
	if names := ReasonNames(); !slices.Equal(names, counted) {
		t.Errorf("%q, counted are %q", names, counted)
	}
}
