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
		Short: "Make a service reachable at a local address",
		Long: "Listens on a local address, and joins each connection that comes to it with one to the service, for which\n" +
			"it knocks anew. It prints the address when it is ready, with -o json as an object on a line; port 0 stands for any that is free. A program\n" +
			"whose service cannot be reached sees its connection reset, and why is on standard error.\n\n" +
			"SIGTERM or an interrupt ends it when the connections have ended, or --drain later; a second one at once.\n\n" +
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
		ctx, say := cmd.Context(), log.New(cmd.ErrOrStderr(), "knockgw: ", 0)
		listener, err := local.open(ctx, say)
		if err != nil {
			return err
		}
		if err := local.printReady(cmd, listener.Addr(), t.name); err != nil {
			return errors.Join(err, listener.Close())
		}
		notePlainText(cmd.ErrOrStderr(), t.address)
		return local.serve(ctx, say, func() error {
			return relay.Serve(ctx, relay.Options{
				Listener: listener, Dial: t.dial, MaxConns: local.conns, Drain: local.drain,
				Report: func(end relay.Result) {
					if err := relayError(end, t.Dialer); err != nil {
						say.Printf("%s: connection from %s: %s", t.name, listenAddress(end.From), singleLine(err))
					}
				},
				OnRetry: func(err error) { say.Printf("accept: %v; trying again", err) },
			})
		})
	}
	return cmd
}
