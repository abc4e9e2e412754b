package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Error is one mistake in a configuration, in one line: what is wrong, where, and what to do about it.
// It never has a secret in it.
type Error struct {
	File string
	Line int    // 0: the file as a whole
	Key  string // as services[0].listen; empty: none in particular
	Msg  string
	Err  error // what the system said, if it did
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

// report gathers the mistakes of one file.
type report struct {
	file     string
	errs     []*Error
	warnings []string
}

// oneLine makes a line of a message with names in it that may have line ends.
func oneLine(msg string) string { return strings.NewReplacer("\n", " ", "\r", " ").Replace(msg) }

// fail records a mistake at node n. An error among the arguments is what the Error unwraps to.
func (r *report) fail(n *yaml.Node, key, format string, args ...any) {
	e := &Error{File: r.file, Line: n.Line, Key: key, Msg: oneLine(fmt.Sprintf(format, args...))}
	for _, a := range args {
		if err, ok := a.(error); ok {
			e.Err = err
		}
	}
	r.errs = append(r.errs, e)
}

// warn records something that is legal at node n.
func (r *report) warn(n *yaml.Node, key, format string, args ...any) {
	e := Error{File: r.file, Line: n.Line, Key: key, Msg: oneLine(fmt.Sprintf(format, args...))}
	r.warnings = append(r.warnings, e.Error())
}

// err is every mistake, by line, or nil.
func (r *report) err() error {
	slices.SortStableFunc(r.errs, func(a, b *Error) int { return a.Line - b.Line })
	all := make([]error, len(r.errs))
	for i, e := range r.errs {
		all[i] = e
	}
	if len(all) == 1 {
		return all[0]
	}
	return errors.Join(all...)
}
