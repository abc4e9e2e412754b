// Package strictyaml reads YAML in which nothing is ignored and no bad value replaced: an unknown key, a wrong
// type or a number out of range is an Error with the line it stands on and what to write instead, and all of
// them are reported at once. What the keys mean is for the packages that have files to read.
package strictyaml

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Error is one mistake in a file, in one line: what is wrong, where, and what to do about it.
// It never has a secret in it.
type Error struct {
	File string
	Line int    // 0: the file as a whole
	Key  string // as services[0].listen; empty: none in particular
	Msg  string
	Err  error // what the system said, if it did

	order int // of its file
}

// Error is file:line: key: message.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	b.WriteString(": ")
	if e.Key != "" {
		b.WriteString(e.Key)
		b.WriteString(": ")
	}
	b.WriteString(e.Msg)
	return b.String()
}

// Unwrap is what the system said.
func (e *Error) Unwrap() error { return e.Err }

// Report gathers the mistakes of one file, and of those that it names.
type Report struct {
	file  string
	order int // of the file among those of the findings
	*findings
}

// findings are the mistakes and warnings of all files that are judged together.
type findings struct {
	files    int
	errs     []*Error
	warnings []string
}

// NewReport is a report on the file of that name, with nothing in it yet.
func NewReport(file string) *Report { return &Report{file: file, findings: &findings{files: 1}} }

// InFile is the same report, for mistakes in another file.
func (r *Report) InFile(file string) *Report {
	r.files++
	return &Report{file: file, order: r.files, findings: r.findings}
}

func (r *Report) add(e *Error) {
	e.order = r.order
	r.errs = append(r.errs, e)
}

// Failures is how many mistakes there are so far.
func (r *Report) Failures() int { return len(r.errs) }

// Warnings are lines, as an Error's, in the order in which they were found.
func (r *Report) Warnings() []string { return r.warnings }

// File is the name of the file that this report is for.
func (r *Report) File() string { return r.file }

// Place is where a node stands, for a mistake elsewhere to point at: "line 3", with the name of the file
// when it is another one.
func (r *Report) Place(there *Report, n *yaml.Node) string {
	if r.file == there.file {
		return fmt.Sprintf("line %d", n.Line)
	}
	return fmt.Sprintf("%s, line %d", there.file, n.Line)
}

// oneLine makes a line of a message with names in it that may have line ends.
func oneLine(msg string) string { return strings.NewReplacer("\n", " ", "\r", " ").Replace(msg) }

// Fail records a mistake at node n. An error among the arguments is what the Error unwraps to.
func (r *Report) Fail(n *yaml.Node, key, format string, args ...any) {
	e := &Error{File: r.file, Line: n.Line, Key: key, Msg: oneLine(fmt.Sprintf(format, args...))}
	for _, a := range args {
		if err, ok := a.(error); ok {
			e.Err = err
		}
	}
	r.add(e)
}

// FailFile records a mistake of the file as a whole.
func (r *Report) FailFile(err error, format string, args ...any) {
	r.add(&Error{File: r.file, Msg: oneLine(fmt.Sprintf(format, args...)), Err: err})
}

// Warn records something that is legal at node n.
func (r *Report) Warn(n *yaml.Node, key, format string, args ...any) {
	e := Error{File: r.file, Line: n.Line, Key: key, Msg: oneLine(fmt.Sprintf(format, args...))}
	r.warnings = append(r.warnings, e.Error())
}

// Err is every mistake, by file and line, or nil.
func (r *Report) Err() error {
	slices.SortStableFunc(r.errs, func(a, b *Error) int { return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.Line, b.Line)) })
	all := make([]error, len(r.errs))
	for i, e := range r.errs {
		all[i] = e
	}
	if len(all) == 1 {
		return all[0]
	}
	return errors.Join(all...)
}
