package demo

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// width is the width of the report in columns: that of the smallest terminal.
const width = 80

// A report is the output: numbered steps, each with its checks.
type report struct {
	w      io.Writer
	err    error // the first of w's
	steps  int
	ok     int
	failed []string
}

func (r *report) print(s string) {
	if r.err == nil {
		_, r.err = io.WriteString(r.w, s)
	}
}

// line prints a line of the report.
func (r *report) line(format string, args ...any) {
	r.print(strings.TrimRight(fmt.Sprintf(format, args...), " ") + "\n")
}

// block prints an indented text.
func (r *report) block(text string) {
	for l := range strings.Lines(text) {
		r.line("     %s", strings.TrimRight(l, "\n"))
	}
}

// step starts the next numbered step.
func (r *report) step(format string, args ...any) {
	r.line("")
	r.line("%d. %s", r.steps, fmt.Sprintf(format, args...))
	r.steps++
}

// check records and prints whether a check passed.
func (r *report) check(ok bool, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	mark := "   ok   "
	if ok {
		r.ok++
	} else {
		mark = "  FAIL  "
		r.failed = append(r.failed, text)
	}
	for i, l := range wrap(text, width-len(mark)) {
		if i > 0 {
			mark = strings.Repeat(" ", len(mark))
		}
		r.line("%s%s", mark, l)
	}
}

// verdict returns the errors of the checks that failed.
func (r *report) verdict() error {
	if len(r.failed) == 0 {
		return nil
	}
	errs := make([]error, 0, len(r.failed))
	for _, w := range r.failed {
		errs = append(errs, fmt.Errorf("%w: %s", ErrCheckFailed, w))
	}
	return errors.Join(errs...)
}

// wrap breaks a text between words into lines of at most n columns. A word
// longer than that has a line of its own.
func wrap(text string, n int) []string {
	var lines []string
	for _, word := range strings.Fields(text) {
		last := len(lines) - 1
		if last >= 0 && len(lines[last])+1+len(word) <= n {
			lines[last] += " " + word
		} else {
			lines = append(lines, word)
		}
	}
	return lines
}

// table prints rows in columns of fixed widths; the first column names the row.
func (r *report) table(rows [][]string) {
	const first, other = 11, 28
	for _, row := range rows {
		var b strings.Builder
		fmt.Fprintf(&b, "     %-*s", first, row[0])
		for _, cell := range row[1:] {
			fmt.Fprintf(&b, "%-*s", other, cell)
		}
		r.line("%s", b.String())
	}
}
