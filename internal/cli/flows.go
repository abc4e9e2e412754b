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

// rateTime is how long rates are measured for.
const rateTime = 500 * time.Millisecond

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
