package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/internal/bytesize"
	"github.com/knockgw/knockgw/internal/control"
	"github.com/knockgw/knockgw/internal/termsafe"
)

// What the operator sees and ends of the running gateway's flows, grants, clients
// and bans.

// rateTime is how long rates are measured for.
const rateTime = 500 * time.Millisecond

// asking is a command that asks the running gateway for one thing and shows it.
type asking[T any] struct {
	ask  func(ctx context.Context, c *control.Client) (*T, error)
	show func(w io.Writer, got *T) error // for people
}

// onto gives cmd its flags, and what it does.
func (a asking[T]) onto(cmd *cobra.Command) *cobra.Command {
	cmd.Args = exact(0)
	at := placeFlags(cmd)
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return a.run(cmd, at, *output) }
	return cmd
}

func (a asking[T]) run(cmd *cobra.Command, at place, output string) error {
	c, err := at.gateway()
	if err != nil {
		return err
	}
	got, err := a.ask(cmd.Context(), c)
	if err != nil {
		return err
	}
	return answer(cmd, output, got, func(w io.Writer) error { return a.show(w, got) })
}

func flowsCommand() *cobra.Command {
	return asking[control.Flows]{
		ask: func(ctx context.Context, c *control.Client) (*control.Flows, error) { return c.Flows(ctx, rateTime) },
		show: func(w io.Writer, list *control.Flows) error {
			t := columns(w, "CLIENT", "FROM", "SERVICE", "UPSTREAM", "AGE", "IDLE", "RECEIVED", "SENT", "IN/s", "OUT/s")
			for _, f := range list.Flows {
				row(t, termsafe.Name(cmp.Or(f.Client, "-")), f.Source, f.Service, cmp.Or(f.Upstream, "-"), lasting(f.Age), lasting(f.Idle),
					bytesize.Text(float64(f.Received)), bytesize.Text(float64(f.Sent)), bytesize.Text(f.ReceiveRate), bytesize.Text(f.SendRate))
			}
			return errors.Join(t.Flush(), more(w, list.Remaining))
		},
	}.onto(&cobra.Command{
		Use:   "flows",
		Short: "List who is inside: the connections that the running gateway relays",
	})
}

func grantsCommand() *cobra.Command {
	return asking[control.Grants]{
		ask: grantsOf,
		show: func(w io.Writer, list *control.Grants) error {
			t := columns(w, "CLIENT", "SERVICE", "FROM", "PORT", "LEFT", "USES", "HANDSHAKES")
			for _, g := range list.Grants {
				port := "any"
				if g.Port != 0 {
					port = fmt.Sprint(g.Port)
				}
				row(t, termsafe.Name(g.Client), g.Service, g.Source, port, lasting(max(g.Left, 0)), g.Uses, g.Handshakes)
			}
			return t.Flush()
		},
	}.onto(&cobra.Command{
		Use:   "grants",
		Short: "List the doors that stand open: what knocks have earned and nobody has used up",
	})
}

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

// inDuration is a time in seconds as one to the millisecond.
func inDuration(seconds float64) time.Duration {
	return time.Duration(seconds * float64(time.Second)).Round(time.Millisecond)
}

// staleResult is what knocks and authentications have in common whose time is off.
const staleResult = "stale"

func revokeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke",
		Short: "End flows and grants at once",
		Long: "Ends the flows and grants that fit everything that is given. A client may knock again, unless it is\n" +
			"removed from the configuration first (knockgw client remove).",
		Example: "  knockgw revoke --client alice\n  knockgw revoke --source 10.1.0.0/16 --service ssh\n  knockgw revoke --flow 10.1.1.2:50122",
		Args:    exact(0),
	}
	at := placeFlags(cmd)
	output := outputFlag(cmd)
	var what control.Revocation
	flags := cmd.Flags()
	flags.StringVar(&what.Client, "client", "", "of this client `id`")
	flags.StringVar(&what.Service, "service", "", "to this service")
	completeFlag(cmd, "client", completeClients(at))
	completeFlag(cmd, "service", completeServices(at))
	source := flags.String("source", "", "from this `address` or network")
	flow := flags.String("flow", "", "the one connection from this `address:port`")
	completeFlag(cmd, "source", completeSources(at))
	completeFlag(cmd, "flow", completeFlows(at))
	flags.BoolVar(&what.Grants, "grants-only", false, "leave the flows alone")
	flags.BoolVar(&what.All, "all", false, "everybody's")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var err error
		if *source != "" {
			if what.Source, err = control.ParseSource(*source); err != nil {
				return &usageError{fmt.Errorf("--source: %w", err)}
			}
		}
		if *flow != "" {
			if what.Flow, err = netip.ParseAddrPort(*flow); err != nil {
				return &usageError{fmt.Errorf("--flow: %w; knockgw flows lists them", err)}
			}
		}
		if err := what.Check(); err != nil {
			return &usageError{err}
		}
		return asking[control.Revoked]{
			ask: func(ctx context.Context, c *control.Client) (*control.Revoked, error) { return c.Revoke(ctx, what) },
			show: func(w io.Writer, done *control.Revoked) error {
				_, err := fmt.Fprintf(w, "%s and %s ended\n", quantity(done.Flows, "flow"), quantity(done.Grants, "grant"))
				return err
			},
		}.run(cmd, at, *output)
	}
	return cmd
}

// quantity is a number of things that have an ordinary plural: 1 flow, 2 flows.
func quantity(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// columns begins a table.
func columns(w io.Writer, names ...string) *tabwriter.Writer {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(names, "\t"))
	return t
}

// row adds a line to a table.
func row(w io.Writer, cells ...any) {
	for i, c := range cells {
		if i > 0 {
			fmt.Fprint(w, "\t")
		}
		fmt.Fprint(w, c)
	}
	fmt.Fprintln(w)
}

// more says that a list goes on.
func more(w io.Writer, n int) error {
	if n == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "and %d more\n", n)
	return err
}

// lasting is a time in seconds for people.
func lasting(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	if d < time.Minute {
		return d.Round(time.Second / 10).String()
	}
	return d.Round(time.Second).String()
}

// when is a moment for people, in the time of this host.
func when(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }
