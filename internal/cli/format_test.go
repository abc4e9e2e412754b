package cli

import (
	"testing"
)

func TestPluralize(t *testing.T) {
	for n, want := range map[int]string{0: "0 flows", 1: "1 flow", 2: "2 flows"} {
		if got := pluralize(n, "flow"); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}
