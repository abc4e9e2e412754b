package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/buildinfo"
	"github.com/knockgw/knockgw/internal/control"
	"github.com/knockgw/knockgw/internal/termsafe"
)

// What the operator asks of the running gateway, by its control socket.

func reloadCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Have the running gateway load its configuration anew",
		Long: "Has the gateway that runs on this configuration load it anew, and prints what has changed. Flows of\n" +
			"what did not change go on; those of clients, secrets, permissions and services that are gone end\n" +
			"at once. A configuration with a mistake changes nothing: it is named, and the exit code is 78.",
		Args: exact(0),
	}
	at := placeFlags(cmd)
	output := outputFlag(cmd)
	rehearse := cmd.Flags().Bool("dry-run", false, "only say what would change")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := at.gateway()
		if err != nil {
			return err
		}
		ask := c.Reload
		if *rehearse {
			ask = c.Check
		}
		result, err := ask(cmd.Context())
		if err != nil {
			return err
		}
		return answer(cmd, *output, result, func(w io.Writer) error { return printResult(w, result) })
	}
	return cmd
}

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
			report(cmd.ErrOrStderr(), fmt.Errorf("%s; waiting for it", oneLine(err)))
		}
		select {
		case <-tick.C:
		case <-cmd.Context().Done():
			return nil // interrupted, as it was meant to be
		}
	}
}

// A place is where a command finds the running gateway: by the configuration that it runs on, or by its socket where
// that file is gone, broken or names another one by now.
type place struct{ config, socket *string }

// placeFlags adds --config and --socket, which every command has that asks the gateway.
func placeFlags(cmd *cobra.Command) place {
	p := place{configFlag(cmd), cmd.Flags().String("socket", "", "the `file` of the running gateway's control socket (default: control.socket of the configuration)")}
	completeFlag(cmd, "socket", completeFiles())
	return p
}

// gateway is who is to be asked. A configuration that has a mistake in it is what a
// reload is asked about, and the gateway is to say so: then only the socket's name
// is wanted of it.
func (p place) gateway() (*control.Client, error) {
	if p.socket != nil && *p.socket != "" {
		return telling(*p.socket), nil
	}
	socket, err := config.Socket(*p.config)
	if err != nil {
		return nil, errors.Join(err, errors.New("--socket names a running gateway's socket where the configuration cannot be read"))
	}
	return telling(socket), nil
}

// telling is a client that tells its user, once, when the gateway takes long.
func telling(socket string) *control.Client {
	said := false
	return &control.Client{Socket: socket, Working: func() {
		if !said {
			said = true
			fmt.Fprintln(os.Stderr, "the gateway is still working on it ...")
		}
	}}
}

func printResult(w io.Writer, r *control.Result) error {
	for _, warning := range r.Warnings {
		fmt.Fprintln(w, warning)
	}
	for _, line := range r.Changes.Lines() {
		fmt.Fprintln(w, line)
	}
	switch {
	case r.Changes.Empty():
		fmt.Fprintln(w, "nothing has changed")
	case r.Applied:
		fmt.Fprintf(w, "reloaded; %s and %s ended\n", quantity(r.Flows, "flow"), quantity(r.Grants, "grant"))
	}
	return nil
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
