package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/internal/control"
	"github.com/knockgw/knockgw/internal/termsafe"
)

func clientsCommand() *cobra.Command {
	return gatewayRequest[control.Clients]{
		ask: clientsOf,
		print: func(w io.Writer, list *control.Clients) error {
			t := newTable(w, "CLIENT", "FLOWS", "GRANTS", "LAST SEEN", "LAST DENIED")
			for _, cl := range list.Clients {
				addRow(t, termsafe.Name(cl.ID), cl.Flows, cl.Grants,
					describeSuccess(cl.LastSeen), describeFailure(cl.LastDenied, cl.LastSeen))
			}
			return errors.Join(t.Flush(), printRemaining(w, list.Remaining))
		},
	}.build(&cobra.Command{
		Use:   "clients",
		Short: "List clients with last login and last failure",
		Long: "Lists the clients of the running gateway, with their last successful and their last\n" +
			"failed knock or authentication since it was started. knockgw client list shows the\n" +
			"clients of the configuration.",
	})
}

// describeSuccess describes an attempt that succeeded.
func describeSuccess(a *control.Attempt) string {
	if a == nil {
		return "never"
	}
	return fmt.Sprintf("%s from %s, %s to %s", formatTime(a.Time), a.Source, a.Method, a.Service)
}

// describeFailure describes a failed attempt, beside the last successful one. A
// knock that an attacker recorded and replays much later is stale too, and says
// nothing about the client's clock: the time in the successful attempt does.
func describeFailure(a, success *control.Attempt) string {
	if a == nil {
		return "never"
	}
	text := fmt.Sprintf("%s from %s, %s to %s: %s",
		formatTime(a.Time), a.Source, a.Method, a.Service, cmp.Or(a.Message, a.Result))

	if a.Result == staleResult && a.ClockDifference != nil {
		text += "; " + describeSkew(duration(*a.ClockDifference))
		if success != nil && success.ClockDifference != nil {
			text += fmt.Sprintf(" (in the attempt accepted at %s: %v)",
				formatTime(success.Time), duration(*success.ClockDifference))
		}
	}
	if a.Repeats > 0 {
		text += fmt.Sprintf(" (%d times in a row)", a.Repeats+1)
	}
	return text
}
