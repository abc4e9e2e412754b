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
		Short: "Change the services that a client may use",
		Long: "Rewrites the client's file in clients_dir and keeps its secret, comments and other keys.\n" +
			"For a new service the client needs its new profile: knockgw client show. A client in\n" +
			"the configuration file itself must be edited there; the error names the line.",
		Example: "  knockgw client set alice --service +wiki                # add a service\n" +
			"  knockgw client set alice --service -db                  # remove a service\n" +
			"  knockgw client set alice --service ssh --service wiki   # exactly these",
		Args: exactArgs(1),
	}
	path := configFlag(cmd)
	output := outputFlag(cmd)
	cmd.ValidArgsFunction = completeOnce(completeClientFiles(path))
	services := cmd.Flags().StringArray("service", nil,
		"`name` of a service that the client may use; +NAME adds one, -NAME removes one;\nrepeatable")
	all := cmd.Flags().Bool("all-services", false, "allow all services, including those added later")
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
			// The file stays: it is valid, and may have removed a service.
			return fmt.Errorf("%s is changed, but the running gateway still uses the previous version: %w", change.File, err)
		}
		set := clientSetResult{Client: args[0], File: change.File, Services: names, All: names == nil, Gateway: taken}
		if names == nil {
			set.Services = serviceNames(change.Config)
		}
		return printResult(cmd, *output, set, func(w io.Writer) error { return set.print(w) })
	}
	return cmd
}

// clientSetResult is the result of client set.
type clientSetResult struct {
	Client   string       `json:"client"`
	File     string       `json:"file"`
	Services []string     `json:"services"` // names of all that it may use
	All      bool         `json:"all"`      // including those added later
	Gateway  reloadStatus `json:"gateway"`
}

func (c *clientSetResult) print(w io.Writer) error {
	may := strings.Join(c.Services, ", ")
	if c.All {
		may = "all services"
	}
	_, err := fmt.Fprintf(w, "client %s may use %s (%s); %s\nnew profile: knockgw client show %s\n",
		termsafe.Name(c.Client), may, c.File, c.Gateway.message(), termsafe.Name(c.Client))
	return err
}
