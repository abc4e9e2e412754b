package cli

import (
	"cmp"
	"context"
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/internal/bytesize"
	"github.com/knockgw/knockgw/internal/control"
	"github.com/knockgw/knockgw/internal/termsafe"
)

// rateInterval is the time over which rates are measured.
const rateInterval = 500 * time.Millisecond

func flowsCommand() *cobra.Command {
	return gatewayRequest[control.Flows]{
		ask: func(ctx context.Context, c *control.Client) (*control.Flows, error) {
			return c.Flows(ctx, rateInterval)
		},
		print: func(w io.Writer, list *control.Flows) error {
			t := newTable(w, "CLIENT", "FROM", "SERVICE", "UPSTREAM", "AGE", "IDLE", "RECEIVED", "SENT", "IN/s", "OUT/s")
			for _, f := range list.Flows {
				addRow(t, termsafe.Name(cmp.Or(f.Client, "-")), f.Source, f.Service, cmp.Or(f.Upstream, "-"),
					formatSeconds(f.Age), formatSeconds(f.Idle),
					bytesize.Text(float64(f.Received)), bytesize.Text(float64(f.Sent)),
					bytesize.Text(f.ReceiveRate), bytesize.Text(f.SendRate))
			}
			return errors.Join(t.Flush(), printRemaining(w, list.Remaining))
		},
	}.build(&cobra.Command{
		Use:   "flows",
		Short: "List active flows",
		Long:  "Lists the connections that the running gateway relays.",
	})
}
