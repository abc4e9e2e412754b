// Package errlist splits errors that were joined with errors.Join.
package errlist

import "errors"

// Errors returns the errors that err was joined from, at any depth; err itself
// if it was not. An error that wraps several others in a sentence is a single
// one.
func Errors(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error }) // itself, not what it wraps
	if !ok || len(joined.Unwrap()) == 0 || err.Error() != errors.Join(joined.Unwrap()...).Error() {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, Errors(e)...)
	}
	return all
}
