package cli

import (
	"strings"
	"testing"
)

func TestVersionFlag(t *testing.T) {
	if out, _, err := runCommandLine(t, nil, "--version"); err != nil || !strings.HasPrefix(out, "knockgw ") {
		t.Errorf("%q, %v", out, err)
	}
}
