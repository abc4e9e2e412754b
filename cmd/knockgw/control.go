package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/control"
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
	path := configFlag(cmd)
	output := outputFlag(cmd)
	rehearse := cmd.Flags().Bool("dry-run", false, "only say what would change")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := controlOf(*path)
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
	path := configFlag(cmd)
	output := outputFlag(cmd)
	watch := cmd.Flags().Bool("watch", false, fmt.Sprintf("say it every %v until interrupted", watchEvery))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := controlOf(*path)
		if err != nil {
			return err
		}
		ask := func() error {
			status, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			return answer(cmd, *output, status, func(w io.Writer) error { return printStatus(w, status) })
		}
		if !*watch {
			return ask()
		}
		return repeat(cmd, ask)
	}
	return cmd
}

// watchEvery is the time between two looks at the status.
const watchEvery = 2 * time.Second

// repeat asks again and again until the command is interrupted. On a terminal each
// answer takes the place of the one before; elsewhere they follow one another.
func repeat(cmd *cobra.Command, ask func() error) error {
	const home = "\x1b[H\x1b[2J" // ECMA-48: the cursor to the corner, and nothing on the screen
	terminal := isTerminal(cmd.OutOrStdout())
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		if terminal {
			fmt.Fprint(cmd.OutOrStdout(), home)
		}
		if err := ask(); err != nil {
			if cmd.Context().Err() != nil {
				return nil
			}
			return err
		}
		select {
		case <-tick.C:
		case <-cmd.Context().Done():
			return nil // interrupted, as it was meant to be
		}
	}
}

// controlOf finds the socket of the gateway that runs on a configuration. One that
// has a mistake in it is what a reload is asked about, and the gateway is to say
// so: then only the socket's name is wanted of it.
func controlOf(path string) (*control.Client, error) {
	socket, err := config.Socket(path)
	if err != nil {
		return nil, err
	}
	return &control.Client{Socket: socket}, nil
}

// answer prints what the gateway said, as JSON or for people.
func answer(cmd *cobra.Command, output string, what any, people func(io.Writer) error) error {
	switch output {
	case "json":
		enc := json.NewEncoder(cmd.OutOrStdout())
		enc.SetIndent("", "  ")
		return enc.Encode(what)
	case "table":
		return people(cmd.OutOrStdout())
	default:
		return &usageError{fmt.Errorf("-o %s: choose table or json", output)}
	}
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
		fmt.Fprintf(w, "reloaded; %d flows and %d grants ended\n", r.Flows, r.Grants)
	}
	return nil
}

func printStatus(w io.Writer, s *control.Status) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	state := "ready"
	if !s.Ready {
		state = "starting or stopping"
	}
	fmt.Fprintf(t, "state\t%s\n", state)
	fmt.Fprintf(t, "version\t%s\n", s.Version)
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
	if len(s.Restart) > 0 {
		fmt.Fprintf(t, "wait for a restart\t%s\n", strings.Join(s.Restart, ", "))
	}
	fmt.Fprintf(t, "services\t%d\n", s.Services)
	fmt.Fprintf(t, "clients\t%d\n", s.Clients)
	fmt.Fprintf(t, "flows\t%d\n", s.Flows)
	fmt.Fprintf(t, "grants\t%d\n", s.Grants)
	return t.Flush()
}

// rehearse has check tell what a reload would change, if a gateway runs on the
// file that was checked. Whether one does is no business of a check's exit code.
func rehearse(cmd *cobra.Command, socket, path string) error {
	if socket == "" {
		return nil
	}
	result, err := (&control.Client{Socket: socket}).Check(cmd.Context())
	var refused *control.RefusedError
	switch {
	case errors.As(err, &refused): // the file is right, and yet needs a restart; or it is another file
		fmt.Fprintf(cmd.OutOrStdout(), "\nThe gateway at %s would refuse to reload:\n  %s\n", socket, strings.Join(refused.Problems, "\n  "))
		return nil
	case errors.Is(err, control.ErrNotRunning):
		return nil
	case errors.Is(err, fs.ErrPermission), errors.Is(err, control.ErrUnavailable):
		fmt.Fprintln(cmd.ErrOrStderr(), err)
		return nil
	case err != nil:
		return err
	}
	out := cmd.OutOrStdout()
	if file, err := filepath.Abs(path); err != nil || file != result.Config {
		fmt.Fprintf(out, "\nThe gateway at %s runs on another file: %s\n", socket, result.Config)
		return nil
	}
	if result.Changes.Empty() {
		fmt.Fprintln(out, "\nA gateway runs on this configuration.")
		return nil
	}
	fmt.Fprintln(out, "\nA gateway runs on an earlier one. A reload would change:")
	for _, line := range result.Changes.Lines() {
		fmt.Fprintln(out, "  "+line)
	}
	return nil
}
