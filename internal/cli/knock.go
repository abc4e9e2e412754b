package cli

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/protocol"
)

func knockCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "knock TARGET",
		Short: "Send a knock",
		Long: "Sends one knock for the service and prints its session id, which the authentication of\n" +
			"the connection must repeat (connect --no-knock --session). SYN knocks have none; any\n" +
			"session id is accepted after them. They need Linux and root or CAP_NET_RAW.\n\n" +
			"Knocks are not acknowledged; use knockgw ping to check that a service is reachable.\n\n" +
			"A knock with --bind-port=PORT needs connect --no-knock --bind-port=PORT.\n\n" + targetHelp,
		Example: "  knockgw knock ssh\n  knockgw knock 10.77.0.1:22 --client alice --secret-file alice.key",
		Args:    exactArgs(1),
	}
	cmd.ValidArgsFunction = completeOnce(completeTargets())
	var f clientFlags
	f.addKnocking(cmd)
	quiet := cmd.Flags().BoolP("quiet", "q", false, "print only the session id, for --session")
	output := outputFlag(cmd)

	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *quiet && *output == asJSON {
			return &usageError{errors.New("--quiet and -o json exclude each other")}
		}
		if f.bindPort == auto {
			return &usageError{errors.New("--bind-port: write --bind-port=PORT, the source port of the connection to come")}
		}
		t, err := f.find(cmd, args[0])
		if err != nil {
			return err
		}
		if t.NoKnock {
			return &usageError{fmt.Errorf("%s accepts no knocks: its mode is auth", t.name)}
		}

		session := t.SessionID
		if session == nil {
			if session, err = t.NewSession(); err != nil {
				return err
			}
		}

		addr, err := client.Resolve(cmd.Context(), "tcp", t.address)
		if err != nil {
			return &client.StepError{Step: client.StepResolve, Err: err}
		}
		if err := t.Knock(cmd.Context(), addr, session); err != nil {
			return asUsageError(&client.StepError{Step: client.StepKnock, Err: err})
		}

		sent := knockResult{
			Target: t.name, Address: t.address, Remote: addr.String(),
			Method: cmp.Or(t.Method, protocol.MethodUDP), Session: hex.EncodeToString(session),
		}
		return printResult(cmd, *output, sent, func(w io.Writer) error {
			text := sent.Session
			if !*quiet {
				text = "session " + text
			}
			_, err := fmt.Fprintln(w, text)
			return err
		})
	}
	return cmd
}

// knockResult describes the knock.
type knockResult struct {
	Target  string `json:"target"`
	Address string `json:"address"` // of the service, as given
	Remote  string `json:"remote"`  // resolved address
	Method  string `json:"method"`
	Session string `json:"session"` // the id, in hex
}
