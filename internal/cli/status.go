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
		Short: "Ask the running gateway how it is",
		Args:  exact(0),
	}
	at := placeFlags(cmd)
	output := outputFlag(cmd)
	watch := cmd.Flags().Bool("watch", false, fmt.Sprintf("say it every %v until interrupted; of JSON an object a line", watchEvery))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := at.gateway()
		if err != nil {
			return err
		}
		say := answer
		ask := func() error {
			status, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			return say(cmd, *output, status, func(w io.Writer) error { return printStatus(w, status) })
		}
		if !*watch {
			return ask()
		}
		say = answerLine
		return watching{ask: ask, every: watchEvery, inPlace: *output == asText && isTerminal(cmd.OutOrStdout())}.run(cmd)
	}
	return cmd
}

// watchEvery is the time between two looks at the status.
const watchEvery = 2 * time.Second

// watching asks again and again until the command is interrupted.
type watching struct {
	ask     func() error // and say the answer
	every   time.Duration
	inPlace bool // each answer takes the place of the one before on a terminal; else they follow one another
}

// run fails if the first question does. Later the gateway may be restarted: that is
// said once, on standard error, and waited for.
func (w watching) run(cmd *cobra.Command) error {
	const home = "\x1b[H\x1b[2J" // ECMA-48: the cursor to the corner, and nothing on the screen
	tick := time.NewTicker(w.every)
	defer tick.Stop()
	answered, away := false, false
	for {
		if w.inPlace && !away {
			fmt.Fprint(cmd.OutOrStdout(), home)
		}
		err := w.ask()
		switch {
		case err == nil:
			answered, away = true, false
		case cmd.Context().Err() != nil:
			return nil
		case !answered:
			return err
		case !away:
			away = true
			report(cmd.ErrOrStderr(), fmt.Errorf("%s; waiting for it", singleLine(err)))
		}
		select {
		case <-tick.C:
		case <-cmd.Context().Done():
			return nil // interrupted, as it was meant to be
		}
	}
}

func printStatus(w io.Writer, s *control.Status) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	state := "ready"
	switch {
	case len(s.Problems) > 0:
		state = "running, but not ready: " + termsafe.Text(strings.Join(s.Problems, "; "))
	case !s.Ready:
		state = "starting or stopping"
	}
	fmt.Fprintf(t, "state\t%s\n", state)
	fmt.Fprintf(t, "version\t%s\n", versionText(buildinfo.Info{Version: s.Version, Commit: s.Commit, Dirty: s.Dirty, Go: s.Go}))
	fmt.Fprintf(t, "process\t%d, since %s\n", s.PID, s.Since.Format(time.RFC3339))
	fmt.Fprintf(t, "configuration\t%s\n", s.Config)
	reload := "none so far"
	if !s.Reloaded.IsZero() {
		reload = s.Reloaded.Format(time.RFC3339)
	}
	if s.ReloadFailed {
		reload += "; the last one was refused"
	}
	fmt.Fprintf(t, "last reload\t%s\n", reload)
	if len(s.PendingRestart) > 0 {
		fmt.Fprintf(t, "wait for a restart\t%s\n", strings.Join(s.PendingRestart, ", "))
	}
	fmt.Fprintf(t, "services\t%d\n", s.Services)
	fmt.Fprintf(t, "clients\t%d\n", s.Clients)
	fmt.Fprintf(t, "flows\t%d\n", s.Flows)
	fmt.Fprintf(t, "grants\t%d\n", s.Grants)
	return t.Flush()
}
