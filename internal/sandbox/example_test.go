package sandbox_test

import (
	"errors"
	"fmt"

	"github.com/knockgw/knockgw/internal/sandbox"
)

// The last step of a start: everything that needs root is open.
func ExampleEnter() {
	account, err := sandbox.Lookup("knockgw", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := sandbox.Enter(sandbox.Options{Account: account}); err != nil {
		fmt.Println(err) // some privileges may be gone: exit
		return
	}
}

func ExampleLookup() {
	_, err := sandbox.Lookup("no-such-user", "")
	fmt.Println(errors.Is(err, sandbox.ErrAccount))
	// Output: true
}
