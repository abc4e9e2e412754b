// Package strictyaml parses YAML without ignoring keys or replacing invalid
// values: an unknown key, a wrong type or a number out of range is an [Error]
// with its line and what to write instead, and all errors are reported at once.
// The packages that use it define the keys.
package strictyaml

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Error is one error in a file, printed on one line: the position, what is
// wrong, and what to do. It never contains a secret.
type Error struct {
	File string
	Line int    // 0: the file as a whole
	Key  string // such as services[0].listen; may be empty
	Msg  string
	Err  error // the system's error, if any

	order int // of its file in the Report
}

// Error returns file:line: key: message.
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

// Unwrap returns the system's error.
func (e *Error) Unwrap() error { return e.Err }

// Report collects the errors of one file, and of the files that it refers to.
type Report struct {
	file  string
	order int // of the file among those of the Report
	*findings
}

// findings are the errors and warnings of all files of a Report.
type findings struct {
	files    int
	errs     []*Error
	warnings []string
}

// NewReport returns an empty report for the named file.
func NewReport(file string) *Report { return &Report{file: file, findings: &findings{files: 1}} }

// InFile returns the same report for errors in another file.
func (r *Report) InFile(file string) *Report {
	r.files++
	return &Report{file: file, order: r.files, findings: r.findings}
}

func (r *Report) add(e *Error) {
	e.order = r.order
	r.errs = append(r.errs, e)
}

// Failures returns the number of errors so far.
func (r *Report) Failures() int { return len(r.errs) }

// Warnings returns the warnings as lines in the format of an Error, in the
// order in which they were found.
func (r *Report) Warnings() []string { return r.warnings }

// File returns the name of the file.
func (r *Report) File() string { return r.file }

// Place returns the position of a node, for errors that refer to it: "line 3",
// with the name of the file if that is a different one.
func (r *Report) Place(there *Report, n *yaml.Node) string {
	if r.file == there.file {
		return fmt.Sprintf("line %d", n.Line)
	}
	return fmt.Sprintf("%s, line %d", there.file, n.Line)
}

// oneLine replaces the line ends of a message, which may contain names with
// line ends.
func oneLine(msg string) string { return strings.NewReplacer("\n", " ", "\r", " ").Replace(msg) }

// Fail records an error at node n. If there is an error among the arguments,
// the Error unwraps to it.
func (r *Report) Fail(n *yaml.Node, key, format string, args ...any) {
	e := &Error{File: r.file, Line: n.Line, Key: key, Msg: oneLine(fmt.Sprintf(format, args...))}
	for _, a := range args {
		if err, ok := a.(error); ok {
			e.Err = err
		}
	}
	r.add(e)
}

// FailFile records an error of the file as a whole.
func (r *Report) FailFile(err error, format string, args ...any) {
	r.add(&Error{File: r.file, Msg: oneLine(fmt.Sprintf(format, args...)), Err: err})
}

// Warn records a warning about valid content at node n.
func (r *Report) Warn(n *yaml.Node, key, format string, args ...any) {
	e := Error{File: r.file, Line: n.Line, Key: key, Msg: oneLine(fmt.Sprintf(format, args...))}
	r.warnings = append(r.warnings, e.Error())
}

// Err returns all errors, sorted by file and line, or nil.
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
