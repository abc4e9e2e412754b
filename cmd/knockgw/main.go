// Command knockgw hides network services behind knocks.
//
// See the README for what it does, and `knockgw help` for how to ask for it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/control"
	"github.com/knockgw/knockgw/sandbox"
	"github.com/knockgw/knockgw/tun"
)

// Exit codes; those from 3 to 6 are for the steps of reaching a service, those from 64 up are sysexits.h's.
const (
	exitOK            = 0
	exitFailed        = 1
	exitUsage         = 2
	exitResolve       = 3
	exitKnock         = 4
	exitConnect       = 5
	exitAuthenticate  = 6
	exitNoTUN         = 69 // EX_UNAVAILABLE
	exitNotPermitted  = 77 // EX_NOPERM
	exitConfiguration = 78 // EX_CONFIG
)

// aboutExitCodes is what the commands that reach a service say about it.
const aboutExitCodes = "The exit code tells which step failed: 3 resolve, 4 knock, 5 connect, 6 authenticate; 1 anything later."

func run() int {
	// The first signal asks for an orderly end, the second gets a prompt one: by the time
	// that the end begins, signals do what they do to any program.
	asked, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	context.AfterFunc(asked, func() {
		stop()
		cancel()
	})

	err := command().ExecuteContext(ctx)
	if err != nil {
		report(err)
	}
	return exitCode(err)
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:   "knockgw",
		Short: "A gateway that hides network services",
		Long: "knockgw owns a TUN device, drops strangers in silence, recognises knocks in the packets that\n" +
			"it sees, and relays the flows it admits to the services behind it.",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return &usageError{fmt.Errorf("there is no command %q; see knockgw help", args[0])}
			}
			return nil
		},
	}
	version := versionCommand()
	tell := root.Flags().Bool("version", false, "print the version")
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if *tell {
			return version.RunE(cmd, args)
		}
		return cmd.Help()
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usageError{fmt.Errorf("%s; see %s --help", spoken(err), cmd.CommandPath())}
	})
	root.AddCommand(
		runCommand(), downCommand(), checkCommand(), demoCommand(), version,
		reloadCommand(), statusCommand(), flowsCommand(), grantsCommand(), clientsCommand(), bansCommand(), revokeCommand(),
		traceCommand(), captureCommand(), explainCommand(), doctorCommand(),
		keygenCommand(), knockCommand(), connectCommand(), pingCommand(), forwardCommand(), proxyCommand(),
		clientCommand(), importCommand(), migrateCommand(),
	)
	return root
}

// usageError is a mistake on the command line.
type usageError struct{ error }

// Unwrap returns the mistake.
func (e *usageError) Unwrap() error { return e.error }

// exact is cobra.ExactArgs with the exit code of a usage error.
func exact(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return &usageError{fmt.Errorf("%q is too much; usage: %s", args[n], cmd.UseLine())}
		}
		if len(args) < n {
			return &usageError{fmt.Errorf("%s is missing; usage: %s", argument(cmd, len(args)), cmd.UseLine())}
		}
		return nil
	}
}

// argument is what the usage of a command calls the i-th of its arguments.
func argument(cmd *cobra.Command, i int) string {
	if words := strings.Fields(cmd.Use); i+1 < len(words) {
		return words[i+1]
	}
	return "an argument"
}

// reportedError is one that was told already, and only decides about the exit code.
type reportedError struct{ error }

// Unwrap returns the error.
func (e *reportedError) Unwrap() error { return e.error }

// isMissingFlag recognises cobra's own error, which has no type.
func isMissingFlag(err error) bool { return strings.HasPrefix(err.Error(), "required flag") }

// oneLine is an error's text in one line, however many errors were joined in it.
func oneLine(err error) string { return strings.ReplaceAll(spoken(err), "\n", "; ") }

// spoken is an error's text without what is for programmers in it: which package of ours or of Go's it is from.
func spoken(err error) string {
	text := regexp.MustCompile(`(^|: )protocol: `).ReplaceAllString(err.Error(), "$1")
	return regexp.MustCompile(`strconv\.\w+: parsing "[^"]*": `).ReplaceAllString(text, "")
}

// askTheTime is the advice of a StepError that a command has followed already: ping and connect compare the clocks.
const askTheTime = " (knockgw ping tells how far it is off)"

// askedTheTime is an error in one line, without that advice.
func askedTheTime(err error) string { return strings.Replace(oneLine(err), askTheTime, "", 1) }

// report prints an error, one line for each that was joined.
func report(err error) {
	var reported *reportedError
	if errors.As(err, &reported) {
		return
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok { // exactly errors.Join's own
		for _, e := range joined.Unwrap() {
			report(e)
		}
		return
	}
	var c *config.Error
	var refused *control.RefusedError
	if errors.As(err, &c) || errors.As(err, &refused) {
		fmt.Fprintln(os.Stderr, err) // lines that begin with file and line, for editors to jump to
		return
	}
	var step *client.StepError
	if errors.As(err, &step) {
		fmt.Fprintln(os.Stderr, "knockgw:", askedTheTime(err))
		return
	}
	fmt.Fprintln(os.Stderr, "knockgw:", spoken(err))
}

func exitCode(err error) int {
	var (
		usage   *usageError
		step    *client.StepError
		conf    *config.Error
		refused *control.RefusedError
	)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage), isMissingFlag(err):
		return exitUsage
	case errors.As(err, &step):
		return stepCode(step.Step)
	case errors.As(err, &conf), errors.As(err, &refused):
		return exitConfiguration
	case errors.Is(err, tun.ErrNoTUN):
		return exitNoTUN
	case errors.Is(err, fs.ErrPermission), errors.Is(err, sandbox.ErrAccount):
		return exitNotPermitted
	default:
		return exitFailed
	}
}

// stepCode is the exit code for a step that failed.
func stepCode(step string) int {
	switch step {
	case client.StepResolve:
		return exitResolve
	case client.StepKnock:
		return exitKnock
	case client.StepConnect:
		return exitConnect
	case client.StepAuthenticate:
		return exitAuthenticate
	default:
		return exitFailed
	}
}
