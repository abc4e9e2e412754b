package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/internal/enroll"
	"github.com/knockgw/knockgw/internal/termsafe"
)

func clientSetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "set ID {--service NAME... | --all-services}",
		Short: "Change which services a client may use",
		Long: "Rewrites the client's file in clients_dir; its secret, other keys and comments stay. The client needs its\n" +
			"new profile for a new service: knockgw client show. A client that stands in the configuration itself is\n" +
			"refused, with the line to edit.",
		Example: "  knockgw client set alice --service +wiki          add a service\n" +
			"  knockgw client set alice --service -db            take one away\n" +
			"  knockgw client set alice --service ssh --service wiki   these and no others",
		Args: exactArgs(1),
	}
	path := configFlag(cmd)
	output := outputFlag(cmd)
	cmd.ValidArgsFunction = completeOnce(completeClientFiles(path))
	services := cmd.Flags().StringArray("service", nil, "the `name` of a service that the client may use; +NAME adds it, -NAME takes it away; can be repeated")
	all := cmd.Flags().Bool("all-services", false, "let the client use every service, later ones too")
	completeFlag(cmd, "service", completeServices(gatewayFlags{config: path}))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *all == (len(*services) > 0) {
			return &usageError{errors.New("say what to change: --service +NAME, --service -NAME, --service NAME, or --all-services")}
		}
		change, names, err := enroll.SetServices(*path, args[0], *services)
		if errors.Is(err, enroll.ErrServices) {
			return &usageError{err}
		}
		if err != nil {
			return err
		}
		taken, err := reloadGateway(cmd.Context(), change.Config)
		if err != nil {
			// The file stays: it may have taken a service away, and is valid.
			return fmt.Errorf("%s is changed, but the running gateway still goes by what it had: %w", change.File, err)
		}
		set := clientSetResult{Client: args[0], File: change.File, Services: names, All: names == nil, Gateway: taken}
		if names == nil {
			set.Services = serviceNames(change.Config)
		}
		return printResult(cmd, *output, set, func(w io.Writer) error { return set.print(w) })
	}
	return cmd
}

// clientSetResult is what client set has done.
type clientSetResult struct {
	Client   string       `json:"client"`
	File     string       `json:"file"`
	Services []string     `json:"services"` // all that it may use, by name
	All      bool         `json:"all"`      // later ones too
	Gateway  reloadStatus `json:"gateway"`
}

func (c *clientSetResult) print(w io.Writer) error {
	may := strings.Join(c.Services, ", ")
	if c.All {
		may = "all services"
	}
	_, err := fmt.Fprintf(w, "client %s may use %s (%s); %s\nits new profile: knockgw client show %s\n",
		termsafe.Name(c.Client), may, c.File, c.Gateway.message(), termsafe.Name(c.Client))
	return err
}
