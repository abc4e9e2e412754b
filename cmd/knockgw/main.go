// Command knockgw hides network services behind knocks.
//
// The README says what it does; `knockgw help` lists its commands, each of which
// is a file of internal/cli.
package main

import (
	"os"

	"github.com/knockgw/knockgw/internal/cli"
)

func main() { os.Exit(cli.Main()) }
