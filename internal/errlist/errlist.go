// Package errlist takes apart what errors.Join has put together.
package errlist

import "errors"

// Errors are those that err was joined of, however deep; err itself where it was not:
// an error that wraps several of them in a sentence is one.
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
