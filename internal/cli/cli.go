// Package cli is the command line of knockgw: one file per command, named after
// it, and what the commands share.
package cli

import (
	"os"

	"github.com/spf13/cobra"
)

// Main runs the command that os.Args names and returns the exit code.
func Main() int {
	ctx, stop := notifyContext()
	defer stop()

	err := command().ExecuteContext(ctx)
	if err != nil {
		report(os.Stderr, err)
	}
	return exitCode(err)
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:   "knockgw",
		Short: "A gateway that hides network services",
		Long: "knockgw reads packets from a TUN device, drops those of unauthorized hosts without\n" +
			"an answer, recognizes knocks, and relays the connections that it admits to the\n" +
			"services behind it.\n\n" +
			"Commands that have a result print it as JSON with -o json. Exceptions: capture,\n" +
			"whose -o is the output file, has --summary json; run has --log-format json; connect\n" +
			"and demo have no JSON output. Errors are printed on standard error.\n\n" + allExitCodeHelp,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          unknownCommand,
	}
	version := versionCommand()
	printVersion := root.Flags().Bool("version", false, "print the version")
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if *printVersion {
			return version.RunE(cmd, args)
		}
		return cmd.Help()
	}

	root.SetFlagErrorFunc(flagError)
	root.SetHelpCommand(helpCommand(root))
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	addGroup(root, "Gateway:",
		runCommand(), downCommand(), holdCommand(), checkCommand(), doctorCommand())
	addGroup(root, "Running gateway:",
		reloadCommand(), statusCommand(), flowsCommand(), grantsCommand(), clientsCommand(), bansCommand(),
		revokeCommand(), traceCommand(), captureCommand(), explainCommand())
	addGroup(root, "Clients of a gateway:",
		clientCommand(), keygenCommand(), migrateCommand())
	addGroup(root, "Client side:",
		importCommand(), pingCommand(), connectCommand(), forwardCommand(), proxyCommand(), knockCommand())
	root.AddCommand(demoCommand(), version)
	addRestoreCommand(root)
	addGenCommand(root)
	strictCompletion(root)
	setCompletionDefaults(root)
	addExitCodeHelp(root)
	return root
}

// addGroup adds commands under a title in the help of root.
func addGroup(root *cobra.Command, title string, commands ...*cobra.Command) {
	root.AddGroup(&cobra.Group{ID: title, Title: title})
	for _, c := range commands {
		c.GroupID = title
	}
	root.AddCommand(commands...)
}
