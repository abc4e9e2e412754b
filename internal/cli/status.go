package cli

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/internal/buildinfo"
	"github.com/knockgw/knockgw/internal/control"
	"github.com/knockgw/knockgw/internal/termsafe"
)

func statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show gateway status",
		Long: "Shows the state of the running gateway: its version, whether it is ready, the last\n" +
			"reload, and the number of services, clients, flows and grants.",
		Args: exactArgs(0),
	}
	gateway := addGatewayFlags(cmd)
	output := outputFlag(cmd)
	watch := cmd.Flags().Bool("watch", false,
		fmt.Sprintf("repeat every %v until interrupted; JSON with one object per line", followInterval))

	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := gateway.client()
		if err != nil {
			return err
		}

		printer := printResult
		ask := func() error {
			status, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			return printer(cmd, *output, status, func(w io.Writer) error { return printStatus(w, status) })
		}
		if !*watch {
			return ask()
		}
		printer = printLine
		f := follower{ask: ask, every: followInterval, inPlace: *output == asText && isTerminal(cmd.OutOrStdout())}
		return f.run(cmd)
	}
	return cmd
}

// followInterval is the time between two updates of the status.
const followInterval = 2 * time.Second

// follower repeats a request until the command is interrupted.
type follower struct {
	ask     func() error // and print the result
	every   time.Duration
	inPlace bool // each result replaces the previous one on the terminal
}

// run fails if the first request fails. Later the gateway may be restarted: then
// it prints that once, on standard error, and waits.
func (f follower) run(cmd *cobra.Command) error {
	const clearScreen = "\x1b[H\x1b[2J" // ECMA-48: cursor home, erase display
	tick := time.NewTicker(f.every)
	defer tick.Stop()

	connected, lost := false, false
	for {
		if f.inPlace && !lost {
			fmt.Fprint(cmd.OutOrStdout(), clearScreen)
		}
		err := f.ask()
		switch {
		case err == nil:
			connected, lost = true, false
		case cmd.Context().Err() != nil:
			return nil
		case !connected:
			return err
		case !lost:
			lost = true
			report(cmd.ErrOrStderr(), fmt.Errorf("%s; waiting for it", singleLine(err)))
		}

		select {
		case <-tick.C:
		case <-cmd.Context().Done():
			return nil // interrupted: the regular end
		}
	}
}

// printStatus prints the status as a table.
func printStatus(w io.Writer, s *control.Status) error {
	state := "ready"
	switch {
	case len(s.Problems) > 0:
		state = "running, but not ready: " + termsafe.Text(strings.Join(s.Problems, "; "))
	case !s.Ready:
		state = "starting or stopping"
	}
	reload := "never"
	if !s.Reloaded.IsZero() {
		reload = s.Reloaded.Format(time.RFC3339)
	}
	if s.ReloadFailed {
		reload += "; the latest was rejected"
	}

	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "state\t%s\n", state)
	fmt.Fprintf(t, "version\t%s\n", versionText(buildinfo.Info{Version: s.Version, Commit: s.Commit, Dirty: s.Dirty, Go: s.Go}))
	fmt.Fprintf(t, "process\t%d, since %s\n", s.PID, s.Since.Format(time.RFC3339))
	fmt.Fprintf(t, "configuration\t%s\n", s.Config)
	fmt.Fprintf(t, "last reload\t%s\n", reload)
	if len(s.PendingRestart) > 0 {
		fmt.Fprintf(t, "pending restart\t%s\n", strings.Join(s.PendingRestart, ", "))
	}
	fmt.Fprintf(t, "services\t%d\n", s.Services)
	fmt.Fprintf(t, "clients\t%d\n", s.Clients)
	fmt.Fprintf(t, "flows\t%d\n", s.Flows)
	fmt.Fprintf(t, "grants\t%d\n", s.Grants)
	return t.Flush()
}
