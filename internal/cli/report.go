package cli

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/control"
	"github.com/knockgw/knockgw/internal/errlist"
	"github.com/knockgw/knockgw/internal/termsafe"
)

// reportedError is one that was told already, and only decides about the exit code.
type reportedError struct{ error }

// Unwrap returns the error.
func (e *reportedError) Unwrap() error { return e.error }

// oneLine is an error's text in one line, however many errors were joined in it.
func oneLine(err error) string { return strings.ReplaceAll(spoken(err), "\n", "; ") }

// spoken is an error's text without what is for programmers in it: which package of ours or of Go's it is from.
func spoken(err error) string {
	text := regexp.MustCompile(`(^|: )protocol: `).ReplaceAllString(err.Error(), "$1")
	return regexp.MustCompile(`strconv\.\w+: parsing "[^"]*": `).ReplaceAllString(text, "")
}

// report prints an error, one line for each that was joined. There may be words of others in it.
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
	var c *config.Error
	var refused *control.RefusedError
	if errors.As(err, &c) || errors.As(err, &refused) {
		fmt.Fprintln(w, termsafe.Lines(err.Error())) // lines that begin with file and line, for editors to jump to
		return
	}
	var step *client.StepError
	if errors.As(err, &step) {
		fmt.Fprintln(w, "knockgw:", termsafe.Lines(oneLine(err)))
		return
	}
	advice := ""
	if errors.Is(err, control.ErrNotRunning) {
		advice = "; if its socket is elsewhere, name it with --socket"
	}
	fmt.Fprintln(w, "knockgw:", termsafe.Lines(spoken(err))+advice)
}
