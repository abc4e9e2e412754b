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
	root.AddCommand(
		// The gateway.
		runCommand(), downCommand(), holdCommand(), checkCommand(), doctorCommand(), demoCommand(), version,

		// A running gateway.
		reloadCommand(), statusCommand(), flowsCommand(), grantsCommand(), clientsCommand(), bansCommand(),
		revokeCommand(), traceCommand(), captureCommand(), explainCommand(),

		// Its clients.
		clientCommand(), keygenCommand(), migrateCommand(),

		// The client side.
		importCommand(), knockCommand(), connectCommand(), pingCommand(), forwardCommand(), proxyCommand(),
	)
	addRestoreCommand(root)
	addGenCommand(root)
	strictCompletion(root)
	setCompletionDefaults(root)
	addExitCodeHelp(root)
	return root
}
