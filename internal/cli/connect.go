package cli

import (
	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/internal/stdio"
)

func connectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "connect TARGET",
		Short: "Connect standard input and output to a service",
		Long: "Knocks, connects, and relays standard input and output. The end of the input is passed\n" +
			"on to the service; the command ends when the service closes the connection.\n\n" + targetHelp,
		Example: "  ssh -o ProxyCommand='knockgw connect ssh' me@ssh\n" +
			"  ssh -o ProxyCommand='knockgw connect %h:%p' me@10.77.0.1\n" +
			"  knockgw connect 10.77.0.1:22 --client alice --secret-file ~/.config/knockgw/alice.key",
		Args: exactArgs(1),
	}
	cmd.ValidArgsFunction = completeOnce(completeTargets())
	var f clientFlags
	f.addConnecting(cmd)

	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		t, err := f.find(cmd, args[0])
		if err != nil {
			return err
		}
		conn, err := t.dialWithNotice(cmd.Context(), cmd.ErrOrStderr())
		switch {
		case err != nil && cmd.Context().Err() != nil:
			return errInterrupted
		case err != nil:
			return asUsageError(err)
		}
		err = relayStdio(cmd.Context(), t.DetectEarlyClose(conn), stdio.Reader(cmd.InOrStdin()), stdio.Writer(cmd.OutOrStdout()))
		return withoutContext(err)
	}
	return cmd
}
