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
		Short: "Show live what becomes of each packet of a source, and why",
		Long: "Shows each packet from a source and to it with the verdict at each step: the gate, the knock, the\n" +
			"authentication, the end of the flow. It goes on until it is interrupted. While it runs, the kernel's\n" +
			"filter passes the source's packets to the gateway, which refuses them itself.",
		Args: exact(0),
	}
	at := placeFlags(cmd)
	from := cmd.Flags().String("from", "", "the source: an `address` or network (required)")
	service := cmd.Flags().String("service", "", "only what concerns this service, and datagrams")
	output := linesFlag(cmd)
	completeFlag(cmd, "from", completeSources(at))
	completeFlag(cmd, "service", completeServices(at))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *from == "" {
			return &usageError{errors.New("say whose packets: --from ADDRESS")}
		}
		source, err := control.ParseSource(*from)
		if err != nil {
			return &usageError{fmt.Errorf("--from: %w", err)}
		}
		c, err := at.gateway()
		if err != nil {
			return err
		}
		err = c.Trace(cmd.Context(), control.TraceOptions{From: source, Service: *service}, func(e *control.TraceEvent) error {
			return answerLine(cmd, *output, e, func(w io.Writer) error { return traceText(w, e) })
		})
		if cmd.Context().Err() != nil {
			return nil // interrupted, as it was meant to be
		}
		return err
	}
	return cmd
}

// traceText writes an event as a line.
func traceText(w io.Writer, e *control.TraceEvent) error {
	var b strings.Builder
	if e.Dropped > 0 {
		fmt.Fprintf(&b, "... %d events were left out\n", e.Dropped)
	}
	fmt.Fprintf(&b, "%s  %-14s %-5s ", e.Time.Local().Format("15:04:05.000000"), e.Step, e.Verdict)
	if e.Reason != "" {
		fmt.Fprintf(&b, " %s", e.Reason)
	}
	fmt.Fprintf(&b, "  %s", e.Source)
	if e.Target != "" {
		fmt.Fprintf(&b, " > %s", e.Target)
	}
	for _, part := range []struct{ before, text string }{{" ", e.Detail}, {" client ", termsafe.Name(e.Client)}, {" service ", e.Service}, {": ", e.Message}} {
		if part.text != "" {
			b.WriteString(part.before + part.text)
		}
	}
	if e.ClockDifference != 0 && e.Verdict == staleResult {
		b.WriteString("; " + skewText(time.Duration(e.ClockDifference*float64(time.Second))))
	}
	_, err := fmt.Fprintln(w, b.String())
	return err
}
