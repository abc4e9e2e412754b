//go:build linux

package netns_test

import (
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	// demoTime is what the demonstration promises to take at most.
	demoTime = 30 * time.Second
	// demoScans is how often it shows a scan that found nothing: before, during
	// and after.
	demoScans = 3
)

func TestDemoPassesAndCleansUp(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	before := host(l)
	cmd := l.Gateway.Command(withTimeout(t, demoTime), program.get(t).Path, "demo")
	cmd.Env = []string{"PATH=/nonexistent"} // it needs no other tool
	out, err := l.Gateway.RunCommand(cmd)
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if n := strings.Count(out, "filtered"); n < demoScans {
		t.Errorf("the demonstration shows %d scans that found nothing, want %d:\n%s", n, demoScans, out)
	}
	if !strings.Contains(out, "knock") {
		t.Errorf("the demonstration shows no knock:\n%s", out)
	}
	assertUnchanged(t, l, before)
}
