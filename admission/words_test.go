package admission

import "testing"

func TestEveryReasonAndResultIsExplained(t *testing.T) {
	for r := range reasonCount {
		if Reason(r).Words() == "" {
			t.Errorf("%v has no words", Reason(r))
		}
	}
	for r := range knockResultCount {
		if KnockResult(r).Words() == "" {
			t.Errorf("%v has no words", KnockResult(r))
		}
	}
}
