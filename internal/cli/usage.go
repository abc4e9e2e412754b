package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/knockgw/knockgw/internal/strictyaml"
)

// usageError is an error in the command line.
type usageError struct{ error }

// Unwrap returns the error.
func (e *usageError) Unwrap() error { return e.error }

// exactArgs is cobra.ExactArgs with a usage error.
func exactArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return &usageError{fmt.Errorf("unexpected argument %q; usage: %s", args[n], cmd.UseLine())}
		}
		if len(args) < n {
			return &usageError{fmt.Errorf("%s is missing; usage: %s", argName(cmd, len(args)), cmd.UseLine())}
		}
		return nil
	}
}

// argNames returns the arguments in the usage line of a command, without flags.
func argNames(cmd *cobra.Command) []string {
	words := strings.Fields(cmd.Use)[1:]
	for i, w := range words {
		if strings.HasPrefix(strings.TrimPrefix(w, "["), "-") {
			return words[:i]
		}
	}
	return words
}

// argName returns the name of the i-th argument in the usage line.
func argName(cmd *cobra.Command, i int) string {
	if names := argNames(cmd); i < len(names) {
		return names[i]
	}
	return "an argument"
}

// unknownCommand rejects the first argument of a command that has subcommands
// and takes no arguments.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return &usageError{fmt.Errorf("there is no command %q; %ssee %s --help",
		commandPath(cmd, args[0]), suggestion(args[0], "", commandNames(cmd.Commands())), cmd.CommandPath())}
}

// commandPath returns a subcommand as it is written after the program's name.
func commandPath(cmd *cobra.Command, name string) string {
	_, parents, _ := strings.Cut(cmd.CommandPath(), " ")
	return strings.TrimSpace(parents + " " + name)
}

// suggestion returns a question for an unknown word, if there is a similar one
// among the known; each is written with the prefix.
func suggestion(word, prefix string, known []string) string {
	if nearest := strictyaml.Nearest(word, known); nearest != "" {
		return "did you mean " + prefix + nearest + "? "
	}
	return ""
}

// commandNames returns the names of the commands that are not hidden.
func commandNames(all []*cobra.Command) (names []string) {
	for _, c := range all {
		if !c.Hidden {
			names = append(names, c.Name())
		}
	}
	return names
}

// flagError returns the usage error for an error of the flag parser, with a
// suggestion for an unknown flag.
func flagError(cmd *cobra.Command, err error) error {
	var (
		unknown *pflag.NotExistError
		invalid *pflag.InvalidValueError
		number  *strconv.NumError
	)
	text, advice := err.Error(), ""
	switch {
	case errors.As(err, &unknown):
		var known []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
		advice = suggestion(unknown.GetSpecifiedName(), "--", known)
	case errors.As(err, &invalid) && errors.As(err, &number):
		text = fmt.Sprintf("--%s %s: %v", invalid.GetFlag().Name, invalid.GetValue(), number.Err)
	}
	return &usageError{fmt.Errorf("%s; %ssee %s --help", text, advice, cmd.CommandPath())}
}

// strictCompletion makes cobra's completion command reject unknown shells and
// arguments as the other commands do, instead of printing its help.
func strictCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() != "completion" {
			continue
		}
		c.Args = unknownCommand
		c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		for _, shell := range c.Commands() {
			shell.Args = func(cmd *cobra.Command, args []string) error {
				if err := cobra.NoArgs(cmd, args); err != nil {
					return &usageError{err}
				}
				return nil
			}
		}
	}
}

// helpCommand replaces cobra's help command, which accepts unknown commands.
func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]...",
		Short: "Show help for a command",
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			cmd, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return commandNames(cmd.Commands()), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err == nil && len(rest) > 0 {
				err = unknownCommand(cmd, rest)
			}
			if err != nil {
				return err
			}
			cmd.InitDefaultHelpFlag() // so that it is listed
			return cmd.Help()
		},
	}
}
