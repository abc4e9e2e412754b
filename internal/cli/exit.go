package cli

import (
	"errors"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/gateway"
	"github.com/knockgw/knockgw/internal/control"
	"github.com/knockgw/knockgw/internal/enroll"
	"github.com/knockgw/knockgw/internal/hold"
	"github.com/knockgw/knockgw/internal/sandbox"
	"github.com/knockgw/knockgw/tun"
)

// Exit codes, the same for every command. Those from 3 to 6 are the steps of
// reaching a service, those from 64 on are from sysexits.h.
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

// Help about exit codes: of most commands, of those that reach a service, of
// run, and of the program.
const (
	exitCodeHelp = "Exit codes: 0 success, 1 failure, 2 usage error, 77 permission denied,\n" +
		"78 configuration error."
	stepExitCodeHelp = "Exit codes: 0 success, 1 failure, 2 usage error, 77 permission denied,\n" +
		"78 configuration error; if a step failed: 3 resolve, 4 knock, 5 connect,\n" +
		"6 authenticate."
	runExitCodeHelp = "Exit codes: 0 regular shutdown, 1 failure, 2 usage error, 69 no TUN device or packets\n" +
		"would bypass the gateway, 77 permission denied, 78 configuration error (nothing was\n" +
		"changed), 130 or 143 a second SIGINT or SIGTERM stopped it without closing its flows."
	allExitCodeHelp = "Exit codes are the same for all commands:\n\n" +
		"    0   success\n" +
		"    1   failure; the last line on standard error has the cause\n" +
		"    2   usage error\n" +
		"    3   resolve: the name of a service has no address\n" +
		"    4   knock: the knock could not be sent\n" +
		"    5   connect: the gateway did not accept the connection\n" +
		"    6   authenticate: the gateway did not prove its identity, or refused the client\n" +
		"    69  this system has no TUN device, or packets would bypass the gateway\n" +
		"    77  permission denied\n" +
		"    78  error in a configuration or profile, at the line named; nothing was changed\n\n" +
		"A second SIGINT or SIGTERM, half a second after the first or later, kills a command\n" +
		"at once; shells report exit code 130 or 143 for that."
)

// addExitCodeHelp appends the exit codes to the help of each command.
func addExitCodeHelp(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		addExitCodeHelp(c)
	}
	if cmd.HasSubCommands() && cmd.Name() != "bans" {
		return
	}

	help := exitCodeHelp
	switch cmd.Name() {
	case "connect", "knock", "ping":
		help = stepExitCodeHelp
	case "run":
		help = runExitCodeHelp
	}
	if cmd.Long == "" {
		cmd.Long = cmd.Short + "."
	}
	cmd.Long += "\n\n" + help
}

// exitCode returns the exit code for the error of a command.
func exitCode(err error) int {
	var (
		usage    *usageError
		step     *client.StepError
		conf     *config.Error
		refused  *control.RefusedError
		noClient *enroll.NoClientError // also from a running gateway
	)

	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &step):
		return stepCode(step.Step)
	case errors.As(err, &conf), errors.As(err, &refused), errors.As(err, &noClient), errors.Is(err, hold.ErrInvalid):
		return exitConfiguration
	case errors.Is(err, tun.ErrNoTUN), errors.Is(err, gateway.ErrBypassed):
		return exitNoTUN
	case errors.Is(err, fs.ErrPermission), errors.Is(err, sandbox.ErrAccount):
		return exitNotPermitted
	default:
		return exitFailed
	}
}

// stepCode returns the exit code for a failed step.
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
