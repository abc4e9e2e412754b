// Package cli is the command line of knockgw: a file for each command, named after
// it, and what they share.
package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/control"
	"github.com/knockgw/knockgw/internal/errlist"
	"github.com/knockgw/knockgw/internal/termsafe"
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
	refuseUnknownShells(root)
	settle(root)
	sayExitCodes(root)
	return root
}

// reportedError is one that was told already, and only decides about the exit code.
type reportedError struct{ error }

// Unwrap returns the error.
func (e *reportedError) Unwrap() error { return e.error }

// oneLine is an error's text in one line, however many errors were joined in it.
func oneLine(err error) string { return strings.ReplaceAll(spoken(err), "\n", "; ") }

// spoken is an error's text without what is for programmers in it: which package of ours or of Go's it is from.
func spoken(err error) string {
	text := regexp.MustCompile(`(^|: )protocol: `).ReplaceAllString(err.Error(), "$1")
	return regexp.MustCompile(`strconv\.\w+: parsing "[^"]*": `).ReplaceAllString(text, "")
}

// report prints an error, one line for each that was joined. There may be words of others in it.
func report(w io.Writer, err error) {
	var reported *reportedError
	if errors.As(err, &reported) {
		return
	}
	if all := errlist.Errors(err); len(all) > 1 {
		for _, e := range all {
			report(w, e)
		}
		return
	}
	var c *config.Error
	var refused *control.RefusedError
	if errors.As(err, &c) || errors.As(err, &refused) {
		fmt.Fprintln(w, termsafe.Lines(err.Error())) // lines that begin with file and line, for editors to jump to
		return
	}
	var step *client.StepError
	if errors.As(err, &step) {
		fmt.Fprintln(w, "knockgw:", termsafe.Lines(oneLine(err)))
		return
	}
	advice := ""
	if errors.Is(err, control.ErrNotRunning) {
		advice = "; if its socket is elsewhere, name it with --socket"
	}
	fmt.Fprintln(w, "knockgw:", termsafe.Lines(spoken(err))+advice)
}
