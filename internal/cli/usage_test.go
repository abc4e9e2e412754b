package cli

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestWhatThereIsNotIsRefusedWithWhatWasMeant(t *testing.T) {
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
		out, _, err := perform(t, nil, strings.Fields(line)...)
		if exitCode(err) != exitUsage || !strings.Contains(err.Error(), want) || out != "" {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestEveryCommandSaysWhatItsExitCodesMean(t *testing.T) {
	each(command(), func(c *cobra.Command, name string) {
		if strings.Count(c.Long, "Exit codes: ") != 1 {
			t.Errorf("%s: %s", name, c.Long)
		}
	})
	out, _, err := perform(t, nil, "help", "ping")
	if err != nil || !strings.Contains(out, "4 knock") || !strings.Contains(out, "--help") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestTheCodeOfASecondSignalIsSaid(t *testing.T) {
	for _, args := range [][]string{{"help"}, {"run", "--help"}} {
		out, _, err := perform(t, nil, args...)
		if err != nil || !strings.Contains(out, "143") || !strings.Contains(out, "130") {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}
