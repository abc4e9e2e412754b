package main

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/client/profile"
	"github.com/knockgw/knockgw/config"
)

// What the shell offers where a name is to be written. It says nothing of what it cannot read.

// completion is a function as cobra has it.
type completion = func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective)

// completeTargets offers the services of all profiles, as an argument alone.
func completeTargets(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	all := offered()
	count := map[string]int{}
	for _, p := range all {
		for i := range p.Services {
			count[p.Services[i].Name]++
		}
	}
	var names []string
	for _, p := range all {
		for i := range p.Services {
			name := p.Services[i].Name
			if count[name] == 1 {
				names = append(names, name)
			}
			names = append(names, p.Name+"/"+name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeProfiles offers the profiles.
func completeProfiles(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var names []string
	for _, p := range offered() {
		names = append(names, p.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// offered are the profiles that can be read.
func offered() []*profile.Profile {
	dir, err := profile.DefaultDirectory()
	if err != nil {
		return nil
	}
	all, _ := dir.Load() // those that cannot be read have no names
	return all
}

// completeClients offers the clients of the configuration at path, as an argument alone.
func completeClients(path *string) completion {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return ofConfig(path, func(c *config.Config) (names []string) {
			for i := range c.Clients {
				names = append(names, c.Clients[i].ID)
			}
			return names
		})
	}
}

// completeServices offers the services of the configuration at path.
func completeServices(path *string) completion {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return ofConfig(path, func(c *config.Config) (names []string) {
			for i := range c.Services {
				names = append(names, c.Services[i].Name)
			}
			return names
		})
	}
}

// ofConfig are the names that a configuration has, in order.
func ofConfig(path *string, names func(*config.Config) []string) ([]string, cobra.ShellCompDirective) {
	c, err := config.Load(*path)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return slices.Sorted(slices.Values(names(c))), cobra.ShellCompDirectiveNoFileComp
}

// completeFlag has the shell offer values of a flag that cmd has.
func completeFlag(cmd *cobra.Command, flag string, offer completion) {
	if err := cmd.RegisterFlagCompletionFunc(flag, offer); err != nil {
		panic(err) // there is no such flag: the program is wrong
	}
}
