package cli

import (
	"bufio"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/knockgw/knockgw/client/profile"
)

// Shell completion. Completions are silent about files that cannot be read, and
// offer file names only where a file is expected.

// completion is the type of cobra's completion functions.
type completion = func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective)

// completeFlag registers the completion of a flag of cmd.
func completeFlag(cmd *cobra.Command, flag string, complete completion) {
	if err := cmd.RegisterFlagCompletionFunc(flag, complete); err != nil {
		panic(err) // no such flag: a bug
	}
}

// completeOnce completes the first argument only.
func completeOnce(complete completion) completion {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return complete(cmd, args, toComplete)
	}
}

// completeFiles completes file names with one of the extensions; all file names
// if none is given.
func completeFiles(extensions ...string) completion {
	if len(extensions) == 0 {
		return cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)
	}
	return cobra.FixedCompletions(extensions, cobra.ShellCompDirectiveFilterFileExt)
}

// completeDirectories completes directory names.
func completeDirectories(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// completeSet completes the words that of returns, sorted and without
// duplicates.
func completeSet(of func() []string) completion {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return slices.Compact(slices.Sorted(slices.Values(of()))), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeTargets completes the services of all profiles.
func completeTargets() completion {
	return completeSet(func() (names []string) {
		all := loadProfiles()
		count := map[string]int{}
		for _, p := range all {
			for i := range p.Services {
				count[p.Services[i].Name]++
			}
		}
		for _, p := range all {
			for i := range p.Services {
				name := p.Services[i].Name
				if count[name] == 1 {
					names = append(names, name)
				}
				names = append(names, p.Name+"/"+name)
			}
		}
		return names
	})
}

// completeProfiles completes a property of each profile.
func completeProfiles(of func(*profile.Profile) string) completion {
	return completeSet(func() (names []string) {
		for _, p := range loadProfiles() {
			names = append(names, of(p))
		}
		return names
	})
}

// loadProfiles returns the profiles that can be read.
func loadProfiles() []*profile.Profile {
	dir, err := profile.DefaultDirectory()
	if err != nil {
		return nil
	}
	all, _ := dir.Load() // profiles that cannot be read have no names
	return all
}

// The account databases: lines that begin with a name (passwd(5), group(5)).
const (
	accountsFile = "/etc/passwd"
	groupsFile   = "/etc/group"
)

// completeAccounts completes the names in such a file.
func completeAccounts(file string) completion {
	return completeSet(func() (names []string) {
		f, err := os.Open(file)
		if err != nil {
			return nil
		}
		defer f.Close() //nolint:errcheck // only read
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if name, _, ok := strings.Cut(lines.Text(), ":"); ok && name != "" && !strings.HasPrefix(name, "#") {
				names = append(names, name)
			}
		}
		return names
	})
}

// freeTextFlags are the flags with text that cannot be completed: new names and
// ids, local addresses, and filter expressions.
func freeTextFlags() []string {
	return []string{"name", "session", "gateway", "listen", "bind-source", "bind-port", "filter"}
}

// setCompletionDefaults disables completion where there is nothing to complete:
// numbers and durations, freeTextFlags, and commands without arguments. All
// other flags must have a completion, or the shell would offer file names.
func setCompletionDefaults(cmd *cobra.Command) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if _, ok := cmd.GetFlagCompletionFunc(f.Name); ok || f.NoOptDefVal == "true" {
			return
		}
		switch kind := f.Value.Type(); {
		case kind != "string" && kind != "stringArray", slices.Contains(freeTextFlags(), f.Name):
			completeFlag(cmd, f.Name, cobra.NoFileCompletions)
		}
	})
	if cmd.ValidArgsFunction == nil && len(argNames(cmd)) == 0 {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	for _, c := range cmd.Commands() {
		setCompletionDefaults(c)
	}
}
