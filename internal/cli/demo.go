package cli

import (
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/internal/demo"
)

func demoCommand() *cobra.Command {
	var hold bool
	cmd := &cobra.Command{
		Use:   "demo [--hold]",
		Short: "Demonstrate the gateway in network namespaces",
		Long: "Creates four network namespaces (client, scanner, gateway and upstream), runs the real\n" +
			"gateway in one, and shows the results of a scan before, during and after a client's\n" +
			"access, of a replayed knock and of a wrong secret, and the gateway's counters. It needs\n" +
			"Linux, root and a few seconds, no other tools, and leaves nothing behind. The exit code\n" +
			"is 0 if all results are as expected.\n\n" +
			"With --hold it starts the gateway with a service for each program in examples/, prints\n" +
			"how to enter the namespaces and what to try there, and waits until it is interrupted.",
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			// A closed pipe (knockgw demo | head) or terminal ends the demo as
			// an interrupt does, and everything is removed.
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGPIPE, syscall.SIGHUP)
			defer stop()

			self, err := os.Executable()
			if err != nil {
				return err
			}
			account := strconv.Itoa(demo.Account)
			o := demo.Options{
				Out: cmd.OutOrStdout(), Gateway: []string{self, "run", "--user", account, "--group", account, "--config"},
			}
			if hold {
				return demo.Hold(ctx, o)
			}
			return demo.Run(ctx, o)
		},
	}
	cmd.Flags().BoolVar(&hold, "hold", false, "keep the namespaces to experiment in, until interrupted")
	return cmd
}
