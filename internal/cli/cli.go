// Package cli is the command line of knockgw: a file for each command, named after
// it, and what they share.
package cli

import (
	"os"

	"github.com/spf13/cobra"
)

// Main runs the command that os.Args names and returns the exit code.
func Main() int {
	ctx, stop := untilSignalled()
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
		Long: "knockgw owns a TUN device, drops strangers in silence, recognises knocks in the packets that\n" +
			"it sees, and relays the flows it admits to the services behind it.\n\n" +
			"Every command that has a result prints it as JSON with -o json (capture, whose -o is the file, with\n" +
			"--summary json). run has --log-format json instead; connect prints what the service sends, and demo is for\n" +
			"people. Errors are on standard error.\n\n" + aboutAllCodes,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noSuchCommand,
	}
	version := versionCommand()
	tell := root.Flags().Bool("version", false, "print the version")
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if *tell {
			return version.RunE(cmd, args)
		}
		return cmd.Help()
	}
	root.SetFlagErrorFunc(flagError)
	root.SetHelpCommand(helpCommand(root))
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	root.AddCommand(
		completeRun(runCommand()), downCommand(), holdCommand(), checkCommand(), demoCommand(), version,
		reloadCommand(), statusCommand(), flowsCommand(), grantsCommand(), clientsCommand(), bansCommand(), revokeCommand(),
		traceCommand(), captureCommand(), explainCommand(), doctorCommand(),
		keygenCommand(), knockCommand(), connectCommand(), pingCommand(), forwardCommand(), proxyCommand(),
		clientCommand(), importCommand(), migrateCommand(),
	)
	addRestoreCommand(root)
	addGenCommand(root)
	strictCompletion(root)
	settle(root)
	sayExitCodes(root)
	return root
}
