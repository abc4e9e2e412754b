package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/knockgw/knockgw/internal/control"
)

func TestReportPrintsJoinedErrors(t *testing.T) {
	t.Parallel()
	one, two := errors.New("one"), errors.New("two")
	for _, c := range []struct {
		err  error
		want string
	}{
		{one, "knockgw: one\n"},
		{errors.Join(one, two), "knockgw: one\nknockgw: two\n"},
		{errors.Join(errors.Join(one), two), "knockgw: one\nknockgw: two\n"},
		{fmt.Errorf("%w: become alice: %w; that takes root", one, fs.ErrPermission), "knockgw: one: become alice: permission denied; that takes root\n"},
	} {
		var out strings.Builder
		if report(&out, c.err); out.String() != c.want {
			t.Errorf("%q is reported as %q, want %q", c.err, out.String(), c.want)
		}
	}
}

func TestReportEscapesText(t *testing.T) {
	var said bytes.Buffer
	report(&said, errors.Join(errors.New("malformed \x1b[2J"), &control.RefusedError{Problems: []string{"one \u009b1m", "two"}}))
	if want := "knockgw: malformed \\x1b[2J\none \\u009b1m\ntwo\n"; said.String() != want {
		t.Errorf("%q", said.String())
	}
}
