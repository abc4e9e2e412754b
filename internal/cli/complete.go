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

// What the shell offers where something is to be written. It says nothing of what it cannot read, and offers files
// where a file is meant and nowhere else.

// completion is a function as cobra has it.
type completion = func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective)

// completeFlag has the shell offer values of a flag that cmd has.
func completeFlag(cmd *cobra.Command, flag string, offer completion) {
	if err := cmd.RegisterFlagCompletionFunc(flag, offer); err != nil {
		panic(err) // there is no such flag: the program is wrong
	}
}

// completeOnce is for an argument: nothing is offered after it.
func completeOnce(offer completion) completion {
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return offer(cmd, args, begun)
	}
}

// completeFiles offers files whose names end in one of these ways; any if none is given.
func completeFiles(endings ...string) completion {
	if len(endings) == 0 {
		return cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)
	}
	return cobra.FixedCompletions(endings, cobra.ShellCompDirectiveFilterFileExt)
}

// completeDirectories offers directories.
func completeDirectories(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// completeSet offers what of returns, in order and once each.
func completeSet(of func() []string) completion {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return slices.Compact(slices.Sorted(slices.Values(of()))), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeTargets offers the services of all profiles.
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

// completeProfiles offers what of gives of each profile.
func completeProfiles(of func(*profile.Profile) string) completion {
	return completeSet(func() (names []string) {
		for _, p := range loadProfiles() {
			names = append(names, of(p))
		}
		return names
	})
}

// loadProfiles are the profiles that can be read.
func loadProfiles() []*profile.Profile {
	dir, err := profile.DefaultDirectory()
	if err != nil {
		return nil
	}
	all, _ := dir.Load() // those that cannot be read have no names
	return all
}

// Where a system that has accounts lists them, a line each that begins with the name (passwd(5), group(5)).
const (
	accountsFile = "/etc/passwd"
	groupsFile   = "/etc/group"
)

// completeAccounts offers the names that such a file lists.
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

// freeTextFlags are the flags that take text for which there is nothing to offer: new names and ids, addresses to listen
// at, and sentences.
func freeTextFlags() []string {
	return []string{"name", "session", "gateway", "listen", "bind-source", "bind-port", "filter"}
}

// setCompletionDefaults has the shell offer nothing for the flags and arguments that nothing is to be offered for: numbers and times,
// ownWords, and commands without arguments. For others somebody must have said what to offer, or it would be files.
func setCompletionDefaults(cmd *cobra.Command) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if _, offered := cmd.GetFlagCompletionFunc(f.Name); offered || f.NoOptDefVal == "true" {
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
