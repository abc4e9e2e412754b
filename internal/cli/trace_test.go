package cli

import (
	"strings"
	"testing"
)

func TestAFilterWithAReasonThatThereIsNotIsAMistakeOfUsage(t *testing.T) {
	for _, line := range []string{"capture -o x --filter", "explain x --filter"} {
		_, _, err := perform(t, nil, append(strings.Fields(line), "reason nosuch")...)
		if exitCode(err) != exitUsage || !strings.Contains(err.Error(), "--filter: ") || !strings.Contains(err.Error(), "malformed-version, no-flow") {
			t.Errorf("%s: %v", line, err)
		}
	}
}
