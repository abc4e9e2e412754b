package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/internal/control"
)

// asking is a command that asks the running gateway for one thing and shows it.
type asking[T any] struct {
	ask  func(ctx context.Context, c *control.Client) (*T, error)
	show func(w io.Writer, got *T) error // for people
}

// onto gives cmd its flags, and what it does.
func (a asking[T]) onto(cmd *cobra.Command) *cobra.Command {
	cmd.Args = exact(0)
	at := placeFlags(cmd)
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return a.run(cmd, at, *output) }
	return cmd
}

func (a asking[T]) run(cmd *cobra.Command, at place, output string) error {
	c, err := at.gateway()
	if err != nil {
		return err
	}
	got, err := a.ask(cmd.Context(), c)
	if err != nil {
		return err
	}
	return answer(cmd, output, got, func(w io.Writer) error { return a.show(w, got) })
}
