package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/internal/control"
	"github.com/knockgw/knockgw/internal/termsafe"
)

func traceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trace --from ADDRESS",
		Short: "Show the packets of a source live, with verdicts and reasons",
		Long: "Shows each packet from and to a source, with the verdict at each step: the gate, the\n" +
			"knock, the authentication, the end of the flow. It continues until it is interrupted.\n" +
			"In the meantime the kernel filter passes the packets of the source to the gateway,\n" +
			"which drops them itself.",
		Args: exactArgs(0),
	}
	gateway := addGatewayFlags(cmd)
	from := cmd.Flags().String("from", "", "source `address` or network (required)")
	service := cmd.Flags().String("service", "", "show only the service of this `name`, and datagrams")
	output := linesFlag(cmd)
	completeFlag(cmd, "from", completeSources(gateway))
	completeFlag(cmd, "service", completeServices(gateway))

	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *from == "" {
			return &usageError{errors.New("--from ADDRESS is required")}
		}
		source, err := control.ParseSource(*from)
		if err != nil {
			return &usageError{fmt.Errorf("--from: %w", err)}
		}
		c, err := gateway.client()
		if err != nil {
			return err
		}

		err = c.Trace(cmd.Context(), control.TraceOptions{From: source, Service: *service}, func(e *control.TraceEvent) error {
			return printLine(cmd, *output, e, func(w io.Writer) error { return printTraceEvent(w, e) })
		})
		if cmd.Context().Err() != nil {
			return nil // interrupted: the regular end
		}
		return err
	}
	return cmd
}

// printTraceEvent prints an event on a line, and before it how many are missing.
func printTraceEvent(w io.Writer, e *control.TraceEvent) error {
	var b strings.Builder
	if e.Dropped > 0 {
		fmt.Fprintf(&b, "... %s dropped\n", pluralize(int(e.Dropped), "event"))
	}

	fmt.Fprintf(&b, "%s  %-14s %-5s ", e.Time.Local().Format("15:04:05.000000"), e.Step, e.Verdict)
	if e.Reason != "" {
		fmt.Fprintf(&b, " %s", e.Reason)
	}
	fmt.Fprintf(&b, "  %s", e.Source)
	if e.Target != "" {
		fmt.Fprintf(&b, " > %s", e.Target)
	}
	for _, part := range []struct{ label, text string }{
		{" ", e.Detail}, {" client ", termsafe.Name(e.Client)}, {" service ", e.Service}, {": ", e.Message},
	} {
		if part.text != "" {
			b.WriteString(part.label + part.text)
		}
	}
	if e.ClockDifference != 0 && e.Verdict == staleResult {
		b.WriteString("; " + describeSkew(time.Duration(e.ClockDifference*float64(time.Second))))
	}
	_, err := fmt.Fprintln(w, b.String())
	return err
}
