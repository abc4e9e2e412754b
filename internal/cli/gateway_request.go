package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/internal/control"
)

// gatewayRequest is a request to the running gateway and how to print the
// result.
type gatewayRequest[T any] struct {
	ask   func(ctx context.Context, c *control.Client) (*T, error)
	print func(w io.Writer, result *T) error // as text
}

// build makes cmd a command that sends the request.
func (r gatewayRequest[T]) build(cmd *cobra.Command) *cobra.Command {
	cmd.Args = exactArgs(0)
	gateway := addGatewayFlags(cmd)
	output := outputFlag(cmd)

	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return r.run(cmd, gateway, *output) }
	return cmd
}

// run sends the request and prints the result.
func (r gatewayRequest[T]) run(cmd *cobra.Command, gateway gatewayFlags, output string) error {
	c, err := gateway.client()
	if err != nil {
		return err
	}
	result, err := r.ask(cmd.Context(), c)
	if err != nil {
		return err
	}
	return printResult(cmd, output, result, func(w io.Writer) error { return r.print(w, result) })
}
