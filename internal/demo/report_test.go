package demo

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestReportFitsTerminal(t *testing.T) {
	var out strings.Builder
	r := report{w: &out}
	r.step("A step")
	r.check(true, "%s", strings.Repeat("word ", 60))
	r.check(false, "%s", strings.Repeat("wrong ", 60))
	a := netip.MustParseAddr("fd01:2::1")
	f := findings{{finScan, a, 1}: closed, {finScan, a, 2}: openFiltered}
	r.table(f.rows([]netip.Addr{a, a}))
	for l := range strings.Lines(out.String()) {
		if len(strings.TrimRight(l, "\n")) > width {
			t.Errorf("%d columns: %s", len(l)-1, l)
		}
		if strings.TrimRight(l, " \n") != strings.TrimRight(l, "\n") {
			t.Errorf("ends in spaces: %q", l)
		}
	}
}

func TestReportNamesFailedCheck(t *testing.T) {
	var out strings.Builder
	r := report{w: &out}
	r.check(true, "this is so")
	if err := r.verdict(); err != nil {
		t.Errorf("all is well and the verdict is %v", err)
	}
	r.check(false, "port %d answers", 80)
	err := r.verdict()
	if !errors.Is(err, ErrCheckFailed) || !strings.Contains(err.Error(), "port 80 answers") {
		t.Errorf("the verdict is %v", err)
	}
	if !strings.Contains(out.String(), "FAIL  port 80 answers") {
		t.Errorf("the report does not say it:\n%s", out.String())
	}
}

// broken is a reader that has gone away.
type broken struct{ writes int }

func (b *broken) Write([]byte) (int, error) { b.writes++; return 0, errors.ErrUnsupported }

func TestReportKeepsFirstWriteError(t *testing.T) {
	var b broken
	r := report{w: &b}
	r.line("one")
	r.line("two")
	if !errors.Is(r.err, errors.ErrUnsupported) || b.writes != 1 {
		t.Errorf("error %v after %d writes", r.err, b.writes)
	}
}
