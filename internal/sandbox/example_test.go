package sandbox_test

import (
	"errors"
	"fmt"

	"github.com/knockgw/knockgw/internal/sandbox"
)

// The last step of a start: what needs root is open, and from here on nothing
// needs it.
func ExampleEnter() {
	account, err := sandbox.Lookup("knockgw", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := sandbox.Enter(sandbox.Options{Account: account}); err != nil {
		fmt.Println(err) // a part may be given up already: the process ends
		return
	}
}

func ExampleLookup() {
	_, err := sandbox.Lookup("nobody of this name", "")
	fmt.Println(errors.Is(err, sandbox.ErrAccount))
	// Output: true
}
