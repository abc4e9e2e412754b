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

// What the shell offers of a configuration, and of the gateway that runs on it.

// queryTimeout is how long somebody who presses a key waits for the gateway.
const queryTimeout = time.Second

// query asks the gateway that runs at a place; nil where none answers.
func query[T any](cmd *cobra.Command, at gatewayFlags, ask func(context.Context, *control.Client) (*T, error)) *T {
	c, err := at.client()
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

// completeClients offers the clients of the configuration; to whom may not read the secrets that it names,
// those that the running gateway has.
func completeClients(at gatewayFlags) completion {
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		return completeSet(func() (ids []string) {
			if c, _ := config.LoadLenient(*at.config); c != nil {
				for i := range c.Clients {
					ids = append(ids, c.Clients[i].ID)
				}
				return ids
			}
			if list := query(cmd, at, clientsOf); list != nil {
				for _, c := range list.Clients {
					ids = append(ids, c.ID)
				}
			}
			return ids
		})(cmd, args, begun)
	}
}

// completeClientFiles offers the clients that have files of their own.
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

// completeServices offers the services of the configuration; to whom may not read the secrets that it names,
// those that somebody uses.
func completeServices(at gatewayFlags) completion {
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		return completeSet(func() (names []string) {
			if c, _ := config.LoadLenient(*at.config); c != nil {
				for i := range c.Services {
					names = append(names, c.Services[i].Name)
				}
				return names
			}
			if list := query(cmd, at, flowsOf); list != nil {
				for _, f := range list.Flows {
					names = append(names, f.Service)
				}
			}
			if list := query(cmd, at, grantsOf); list != nil {
				for _, g := range list.Grants {
					names = append(names, g.Service)
				}
			}
			return names
		})(cmd, args, begun)
	}
}

// completeFlows offers the flows of the running gateway, by their clients' ends.
func completeFlows(at gatewayFlags) completion {
	return func(cmd *cobra.Command, _ []string, _ string) (ends []string, _ cobra.ShellCompDirective) {
		if list := query(cmd, at, flowsOf); list != nil {
			for _, f := range list.Flows {
				ends = append(ends, cobra.CompletionWithDesc(f.Source.String(), termsafe.Name(f.Client)+" to "+f.Service))
			}
		}
		return ends, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeSources offers the addresses that the running gateway knows: those of flows and grants, and those from which
// clients came in or stood outside.
func completeSources(at gatewayFlags) completion {
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		return completeSet(func() (all []string) {
			if list := query(cmd, at, flowsOf); list != nil {
				for _, f := range list.Flows {
					all = append(all, f.Source.Addr().String())
				}
			}
			if list := query(cmd, at, grantsOf); list != nil {
				for _, g := range list.Grants {
					all = append(all, g.Source.String())
				}
			}
			if list := query(cmd, at, clientsOf); list != nil {
				for _, c := range list.Clients {
					for _, a := range []*control.Attempt{c.LastSeen, c.LastDenied} {
						if a != nil {
							all = append(all, a.Source.String())
						}
					}
				}
			}
			return all
		})(cmd, args, begun)
	}
}

// completeBans offers the sources that are banned.
func completeBans(at gatewayFlags) completion {
	return func(cmd *cobra.Command, _ []string, _ string) (all []string, _ cobra.ShellCompDirective) {
		if list := query(cmd, at, bansOf); list != nil {
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
