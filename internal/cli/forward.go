package cli

import (
	"errors"
	"log"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/client/relay"
)

func forwardCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "forward TARGET [--listen ADDRESS]",
		Short: "Forward a local port to a service",
		Long: "Listens at a local address and relays each connection to the service, with a knock for\n" +
			"each. It prints the address when it is ready; port 0 stands for any free port. If the\n" +
			"service cannot be reached, the program's connection is reset and the cause is printed\n" +
			"on standard error.\n\n" +
			"SIGTERM or an interrupt stops it when all connections have ended, or after --drain; a\n" +
			"second signal stops it at once.\n\n" +
			targetHelp,
		Example: "  knockgw forward postgres --listen 127.0.0.1:15432\n  psql -h 127.0.0.1 -p 15432",
		Args:    exactArgs(1),
	}
	cmd.ValidArgsFunction = completeOnce(completeTargets())
	var (
		f     clientFlags
		local listenFlags
	)
	f.addConnecting(cmd)
	local.add(cmd, "127.0.0.1:0")

	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := local.validate(); err != nil {
			return err
		}
		t, err := f.find(cmd, args[0])
		if err != nil {
			return err
		}
		ctx, errs := cmd.Context(), log.New(cmd.ErrOrStderr(), "knockgw: ", 0)
		listener, err := local.open(ctx, errs)
		if err != nil {
			return err
		}

		if err := local.printReady(cmd, listener.Addr(), t.name); err != nil {
			return errors.Join(err, listener.Close())
		}
		notePlainText(cmd.ErrOrStderr(), t.address)

		return local.serve(ctx, errs, func() error {
			return relay.Serve(ctx, relay.Options{
				Listener: listener, Dial: t.dial, MaxConns: local.conns, Drain: local.drain,
				Report: func(r relay.Result) {
					if err := relayError(r, t.Dialer); err != nil {
						errs.Printf("%s: connection from %s: %s", t.name, listenAddress(r.From), singleLine(err))
					}
				},
				OnRetry: func(err error) { errs.Printf("accept: %v; trying again", err) },
			})
		})
	}
	return cmd
}
