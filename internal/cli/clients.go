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
	return asking[control.Clients]{
		ask: clientsOf,
		show: func(w io.Writer, list *control.Clients) error {
			t := columns(w, "CLIENT", "FLOWS", "GRANTS", "LAST SEEN", "LAST REFUSED")
			for _, cl := range list.Clients {
				row(t, termsafe.Name(cl.ID), cl.Flows, cl.Grants, seenText(cl.LastSeen), refusedText(cl.LastDenied, cl.LastSeen))
			}
			return errors.Join(t.Flush(), more(w, list.Remaining))
		},
	}.onto(&cobra.Command{
		Use:   "clients",
		Short: "List the clients, when they were last seen, and why they last stood outside",
		Long: "Lists what the running gateway knows about its clients since it was started. What stands in the\n" +
			"configuration is knockgw client list's.",
	})
}

// seenText tells of an attempt that succeeded.
func seenText(a *control.Attempt) string {
	if a == nil {
		return "never"
	}
	return fmt.Sprintf("%s from %s, %s to %s", when(a.Time), a.Source, a.Method, a.Service)
}

// refusedText tells of an attempt that did not, beside the last one that did. What
// an attacker recorded and sends much later is stale, too, and says nothing about the
// client's clock: the time of what was accepted shows that.
func refusedText(a, seen *control.Attempt) string {
	if a == nil {
		return "never"
	}
	text := fmt.Sprintf("%s from %s, %s to %s: %s", when(a.Time), a.Source, a.Method, a.Service, cmp.Or(a.Message, a.Result))
	if a.Result == staleResult && a.ClockDifference != nil {
		text += "; " + skewText(inDuration(*a.ClockDifference))
		if seen != nil && seen.ClockDifference != nil {
			text += fmt.Sprintf(" (by what was accepted at %s: %v)", when(seen.Time), inDuration(*seen.ClockDifference))
		}
	}
	if a.Repeats > 0 {
		text += fmt.Sprintf(" (%d times in a row)", a.Repeats+1)
	}
	return text
}
