// Package joined takes apart what errors.Join has put together.
package joined

// Errors are those that err was joined of, however deep; err itself where it was not.
func Errors(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error }) // exactly errors.Join's own
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, Errors(e)...)
	}
	return all
}
