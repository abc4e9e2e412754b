package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/internal/control"
	"github.com/knockgw/knockgw/internal/termsafe"
)

func grantsCommand() *cobra.Command {
	return gatewayRequest[control.Grants]{
		ask: grantsOf,
		print: func(w io.Writer, list *control.Grants) error {
			t := newTable(w, "CLIENT", "SERVICE", "FROM", "PORT", "LEFT", "USES", "HANDSHAKES")
			for _, g := range list.Grants {
				port := "any"
				if g.Port != 0 {
					port = fmt.Sprint(g.Port)
				}
				addRow(t, termsafe.Name(g.Client), g.Service, g.Source, port, formatSeconds(max(g.Left, 0)), g.Uses, g.Handshakes)
			}
			return t.Flush()
		},
	}.build(&cobra.Command{
		Use:   "grants",
		Short: "List active grants",
		Long: "Lists the grants of the running gateway: permissions to connect, from a knock or an\n" +
			"authentication, that have not been used up and have not expired.",
	})
}
