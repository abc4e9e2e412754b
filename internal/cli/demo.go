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
		Short: "Show with evidence what the gateway does, in a lab of its own",
		Long: "Builds four network namespaces (client and stranger, gateway, upstream), runs the real gateway in\n" +
			"one, and shows what a scan finds before, while and after its client is in, what comes of a replayed\n" +
			"knock and of a wrong secret, and what the gateway counted. Needs Linux and root, no other tool, and\n" +
			"some seconds; leaves nothing behind. Exits with 0 if all evidence is as it should be.\n\n" +
			"With --hold it shows nothing, but starts the gateway with a service for each program of examples/,\n" +
			"prints how to enter the namespaces and what to try there, and stays until it is interrupted.",
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			// A reader who goes away (knockgw demo | head) or hangs up ends the
			// demonstration as an interrupt does, with everything taken down.
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGPIPE, syscall.SIGHUP)
			defer stop()
			self, err := os.Executable()
			if err != nil {
				return err
			}
			nobody := strconv.Itoa(demo.Account)
			o := demo.Options{
				Out: cmd.OutOrStdout(), Gateway: []string{self, "run", "--user", nobody, "--group", nobody, "--config"},
			}
			if hold {
				return demo.Hold(ctx, o)
			}
			return demo.Run(ctx, o)
		},
	}
	cmd.Flags().BoolVar(&hold, "hold", false, "keep a lab for your own tries, until you interrupt it")
	return cmd
}
