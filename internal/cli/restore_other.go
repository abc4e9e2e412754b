//go:build !linux

package cli

import (
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/internal/routing"
	"github.com/knockgw/knockgw/internal/sandbox"
)

// restorer exists on Linux only: elsewhere the operator sets the routes.
type restorer struct{}

func newRestorer(*slog.Logger) *restorer { return &restorer{} }

func (*restorer) close() error { return nil }

func (*restorer) startFunc(*sandbox.Account) func(routing.ProtectedSet, int) error { return nil }

// addRestoreCommand adds nothing.
func addRestoreCommand(*cobra.Command) {}
