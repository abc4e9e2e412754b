package errlist_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/knockgw/knockgw/internal/errlist"
)

type empty struct{}

func (empty) Error() string   { return "nothing in it" }
func (empty) Unwrap() []error { return nil }

func TestErrorsSplitsJoinedErrors(t *testing.T) {
	a, b, c := errors.New("a"), errors.New("b"), errors.New("c")
	for _, x := range []struct {
		name string
		err  error
		want int
	}{
		{"one", a, 1},
		{"joined", errors.Join(a, b), 2},
		{"joined twice", errors.Join(errors.Join(a, b), c), 3},
		{"in a sentence", fmt.Errorf("%w and %w", a, b), 1},
		{"a list without any", empty{}, 1},
		{"that list, joined", errors.Join(a, empty{}), 2},
	} {
		if got := errlist.Errors(x.err); len(got) != x.want {
			t.Errorf("%s: %q, want %d", x.name, got, x.want)
		}
	}
}
