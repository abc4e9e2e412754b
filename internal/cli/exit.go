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

// Exit codes, the same for every command; those from 3 to 6 are for the steps of reaching a service, those from 64 up
// are sysexits.h's.
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

// What the commands say about their exit codes, and what the program says about all of them.
const (
	aboutExitCodes = "Exit codes: 0 done; 1 failed; 2 a mistake on the command line; 77 not permitted; 78 a mistake in a file."
	aboutStepCodes = "Exit codes: 0 done; 3 resolve, 4 knock, 5 connect or 6 authenticate, whichever step failed; 1 anything\n" +
		"later; 2 a mistake on the command line; 77 not permitted; 78 a mistake in a file."
	aboutRunCodes = "Exit codes: 0 an orderly end; 1 failed; 2 a mistake on the command line; 69 there is no TUN device here, or\n" +
		"packets would bypass the gateway on this host;\n" +
		"77 not permitted; 78 a mistake in the configuration, and nothing was touched; 143 or 130 a second SIGTERM or\n" +
		"SIGINT ended it before its flows were told."
	aboutAllCodes = "The exit code is the same for every command:\n\n" +
		"    0   done\n" +
		"    1   failed; the last line on standard error says what\n" +
		"    2   a mistake on the command line\n" +
		"    3   resolve: a service's name has no address\n" +
		"    4   knock: it could not be sent\n" +
		"    5   connect: the gateway did not open\n" +
		"    6   authenticate: the gateway did not prove who it is, or refused\n" +
		"    69  this system has no TUN device, or packets would bypass the gateway on it\n" +
		"    77  not permitted\n" +
		"    78  a mistake in a configuration or a profile, at the line that is named; nothing has changed\n\n" +
		"A second signal, half a second later or more, ends a command at once, and the shell's code for that is 130 (SIGINT) or 143 (SIGTERM)."
)

// sayExitCodes adds to what each command tells about itself what its exit codes mean.
func sayExitCodes(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		sayExitCodes(c)
	}
	if cmd.HasSubCommands() && cmd.Name() != "bans" {
		return
	}
	about := aboutExitCodes
	switch cmd.Name() {
	case "connect", "knock", "ping":
		about = aboutStepCodes
	case "run":
		about = aboutRunCodes
	}
	if cmd.Long == "" {
		cmd.Long = cmd.Short + "."
	}
	cmd.Long += "\n\n" + about
}

// exitCode is that of a command which ended with err.
func exitCode(err error) int {
	var (
		usage   *usageError
		step    *client.StepError
		conf    *config.Error
		refused *control.RefusedError
		// The running gateway's refusal, where it is asked about such a client.
		noClient *enroll.NoClientError
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
