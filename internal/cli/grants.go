package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/internal/control"
	"github.com/knockgw/knockgw/internal/termsafe"
)

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
