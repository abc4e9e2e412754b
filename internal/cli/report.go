package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/control"
	"github.com/knockgw/knockgw/internal/errlist"
	"github.com/knockgw/knockgw/internal/termsafe"
)

// reportedError has been printed already, and only determines the exit code.
type reportedError struct{ error }

// Unwrap returns the error.
func (e *reportedError) Unwrap() error { return e.error }

// singleLine returns the text of an error on one line, however many errors were
// joined in it.
func singleLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// report prints an error, one line for each that was joined. Control characters
// in it are escaped, since it may contain text from outside.
func report(w io.Writer, err error) {
	var reported *reportedError
	if errors.As(err, &reported) {
		return
	}
	if all := errlist.Errors(err); len(all) > 1 {
		for _, e := range all {
			report(w, e)
		}
		return
	}

	// Errors of a configuration begin with file and line, which editors jump to.
	var invalid *config.Error
	var refused *control.RefusedError
	if errors.As(err, &invalid) || errors.As(err, &refused) {
		fmt.Fprintln(w, termsafe.Lines(err.Error()))
		return
	}

	text, advice := err.Error(), ""
	var step *client.StepError
	switch {
	case errors.As(err, &step):
		text = singleLine(err)
	case errors.Is(err, control.ErrNotRunning):
		advice = "; use --socket if its socket is elsewhere"
	}
	fmt.Fprintln(w, "knockgw:", termsafe.Lines(text)+advice)
}
