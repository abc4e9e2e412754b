package cli

import (
	"context"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/control"
	"github.com/knockgw/knockgw/internal/termsafe"
)

// queryTimeout limits how long a completion waits for the gateway.
const queryTimeout = time.Second

// query sends a request to the running gateway; nil if it does not answer.
func query[T any](cmd *cobra.Command, gateway gatewayFlags, ask func(context.Context, *control.Client) (*T, error)) *T {
	c, err := gateway.client()
	if err != nil {
		return nil
	}
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	got, err := ask(ctx, c)
	if err != nil {
		return nil
	}
	return got
}

// completeClients completes the clients of the configuration, or those of the
// running gateway if the user cannot read the secret files that it names.
func completeClients(gateway gatewayFlags) completion {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		return completeSet(func() (ids []string) {
			if c, _ := config.LoadLenient(*gateway.config); c != nil {
				for i := range c.Clients {
					ids = append(ids, c.Clients[i].ID)
				}
				return ids
			}
			if list := query(cmd, gateway, clientsOf); list != nil {
				for _, c := range list.Clients {
					ids = append(ids, c.ID)
				}
			}
			return ids
		})(cmd, args, toComplete)
	}
}

// completeClientFiles completes the clients with a file of their own.
func completeClientFiles(path *string) completion {
	return completeSet(func() (ids []string) {
		c, _ := config.LoadLenient(*path)
		if c == nil {
			return nil
		}
		for i := range c.Clients {
			id := c.Clients[i].ID
			if place, _ := c.Position(id); filepath.Clean(place.File) != filepath.Clean(*path) {
				ids = append(ids, id)
			}
		}
		return ids
	})
}

// completeServices completes the services of the configuration, or those in use
// if the user cannot read the secret files that it names.
func completeServices(gateway gatewayFlags) completion {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		return completeSet(func() (names []string) {
			if c, _ := config.LoadLenient(*gateway.config); c != nil {
				for i := range c.Services {
					names = append(names, c.Services[i].Name)
				}
				return names
			}
			if list := query(cmd, gateway, flowsOf); list != nil {
				for _, f := range list.Flows {
					names = append(names, f.Service)
				}
			}
			if list := query(cmd, gateway, grantsOf); list != nil {
				for _, g := range list.Grants {
					names = append(names, g.Service)
				}
			}
			return names
		})(cmd, args, toComplete)
	}
}

// completeFlows completes the flows of the running gateway, by their source.
func completeFlows(gateway gatewayFlags) completion {
	return func(cmd *cobra.Command, _ []string, _ string) (ends []string, _ cobra.ShellCompDirective) {
		if list := query(cmd, gateway, flowsOf); list != nil {
			for _, f := range list.Flows {
				ends = append(ends, cobra.CompletionWithDesc(f.Source.String(), termsafe.Name(f.Client)+" to "+f.Service))
			}
		}
		return ends, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeSources completes the addresses that the running gateway knows: those
// of flows and grants, and of the last attempts of clients.
func completeSources(gateway gatewayFlags) completion {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		return completeSet(func() (all []string) {
			if list := query(cmd, gateway, flowsOf); list != nil {
				for _, f := range list.Flows {
					all = append(all, f.Source.Addr().String())
				}
			}
			if list := query(cmd, gateway, grantsOf); list != nil {
				for _, g := range list.Grants {
					all = append(all, g.Source.String())
				}
			}

			if list := query(cmd, gateway, clientsOf); list != nil {
				for _, c := range list.Clients {
					for _, a := range []*control.Attempt{c.LastSeen, c.LastDenied} {
						if a != nil {
							all = append(all, a.Source.String())
						}
					}
				}
			}
			return all
		})(cmd, args, toComplete)
	}
}

// completeBans completes banned sources.
func completeBans(gateway gatewayFlags) completion {
	return func(cmd *cobra.Command, _ []string, _ string) (all []string, _ cobra.ShellCompDirective) {
		if list := query(cmd, gateway, bansOf); list != nil {
			for _, b := range list.Bans {
				all = append(all, b.Source.String())
			}
		}
		return all, cobra.ShellCompDirectiveNoFileComp
	}
}

func flowsOf(ctx context.Context, c *control.Client) (*control.Flows, error)   { return c.Flows(ctx, 0) }
func grantsOf(ctx context.Context, c *control.Client) (*control.Grants, error) { return c.Grants(ctx) }
func clientsOf(ctx context.Context, c *control.Client) (*control.Clients, error) {
	return c.Clients(ctx)
}
func bansOf(ctx context.Context, c *control.Client) (*control.Bans, error) { return c.Bans(ctx) }
