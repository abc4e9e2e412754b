package cli

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestUnknownCommandSuggestion(t *testing.T) {
	for line, want := range map[string]string{
		"stats":             `there is no command "stats"; did you mean status? see knockgw --help`,
		"xyzzy":             `there is no command "xyzzy"; see knockgw --help`,
		"client rotte":      `there is no command "client rotte"; did you mean rotate?`,
		"help client rotte": `there is no command "client rotte"; did you mean rotate?`,
		"help flws":         `there is no command "flws"; did you mean flows?`,
		"completion bsh":    `there is no command "completion bsh"; did you mean bash?`,
		"ping x --metod y":  `unknown flag: --metod; did you mean --method? see knockgw ping --help`,
		"flows -x":          `unknown shorthand flag: 'x' in -x; see knockgw flows --help`,
		"flows x":           `unexpected argument "x"; usage: knockgw flows`,
		"completion bash x": `unknown command "x"`,
	} {
		out, _, err := runCommandLine(t, nil, strings.Fields(line)...)
		if exitCode(err) != exitUsage || !strings.Contains(err.Error(), want) || out != "" {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestHelpHasExitCodes(t *testing.T) {
	eachCommand(command(), func(c *cobra.Command, name string) {
		if strings.Count(c.Long, "Exit codes: ") != 1 {
			t.Errorf("%s: %s", name, c.Long)
		}
	})
	out, _, err := runCommandLine(t, nil, "help", "ping")
	if err != nil || !strings.Contains(out, "4 knock") || !strings.Contains(out, "--help") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestHelpHasSignalExitCode(t *testing.T) {
	for _, args := range [][]string{{"help"}, {"run", "--help"}} {
		out, _, err := runCommandLine(t, nil, args...)
		if err != nil || !strings.Contains(out, "143") || !strings.Contains(out, "130") {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}

func TestMissingArgumentIsNamed(t *testing.T) {
	for _, c := range [][]string{{"connect", "TARGET is missing"}, {"explain", "CAPTURE is missing"}, {"client", "remove", "ID is missing"}} {
		_, _, err := runCommandLine(t, nil, c[:len(c)-1]...)
		if exitCode(err) != exitUsage || !strings.Contains(err.Error(), c[len(c)-1]) {
			t.Errorf("%v: %v", c, err)
		}
	}
}

func TestErrorsNameNoPackages(t *testing.T) {
	for line, want := range map[string]string{
		"knock x:1 --client a --secret-file f --method x": "--method x: unknown method; choose udp",
		"ping x -c x":              "--count x: invalid syntax; see knockgw ping --help",
		"ping x -c 1e9":            "--count 1e9: invalid syntax",
		"knock x --udp-port 65536": "--udp-port 65536: value out of range",
	} {
		line = strings.Replace(line, "-file f", "-file "+secretFile(t, aliceSecret), 1)
		if _, _, err := runCommandLine(t, nil, strings.Fields(line)...); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestInvalidFlagsAreUsageErrors(t *testing.T) {
	g := newGate(t, echo)
	profiles(t, g.profile("lab", "echo"))
	for _, args := range [][]string{
		{"forward", "echo", "--listen", "nonsense"}, {"forward", "echo", "--drain", "-1s"}, {"proxy", "--max-connections", "0"},
		{"proxy", "--profile", "nosuch"}, {"ping", "echo", "-c", "0"}, {"ping", "echo", "-o", "xml"}, {"ping", "echo", "--interval", "-1s"},
		{"knock", "echo", "--bind-port"}, {"connect", "echo", "--timeout", "-1s"},
	} {
		if _, _, err := runCommandLine(t, nil, args...); exitCode(err) != exitUsage {
			t.Errorf("%v: %v", args, err)
		}
	}
	profiles(t)
	if _, _, err := runCommandLine(t, nil, "proxy"); exitCode(err) != exitUsage || !strings.Contains(err.Error(), "import") {
		t.Errorf("without a profile: %v", err)
	}
}
