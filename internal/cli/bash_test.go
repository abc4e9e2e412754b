//go:build unix

package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/knockgw/knockgw/internal/testtool"
)

// bashCompletion is where distributions have the library of bash completions.
// The environment can name another path.
const (
	bashCompletion         = "/usr/share/bash-completion/bash_completion"
	bashCompletionVariable = "KNOCKGW_BASH_COMPLETION"
)

// complete prints what bash offers for the last word of the arguments.
const complete = `
source "$1" && source "$2" && shift 2 || exit
line="$*"
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE=${line// : /:} COMP_POINT=${#COMP_LINE} COMP_TYPE=9
compopt() { :; } # which bash has in its own completions alone
__start_knockgw knockgw "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\n' "${COMPREPLY[@]}"
`

func TestBashCompletes(t *testing.T) {
	base := bashCompletion
	if named := os.Getenv(bashCompletionVariable); named != "" {
		base = named
	}
	bash := testtool.Require(t, "bash")[0]
	if _, err := os.Stat(base); err != nil {
		if testtool.Required() {
			t.Fatal("bash-completion is not installed")
		}
		t.Skip("needs bash's package bash-completion")
	}
	g := newFakeGateway(t)
	dir := t.TempDir()
	self, err := os.Executable() // which testscript makes a knockgw, if it is called that
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "knockgw")); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(dir, "knockgw.bash")
	out, err := exec.CommandContext(t.Context(), filepath.Join(dir, "knockgw"), "completion", "bash").Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(script, out, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"some.pcap", "some.yaml", "some.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		words []string
		want  string
	}{
		{[]string{"expl"}, "explain"},
		{[]string{"explain", "so"}, "some.pcap"},
		{[]string{"flows", "--config", "so"}, "some.yaml"},
		{[]string{"flows", "-o", "j"}, "json"},
		{[]string{"flows", ""}, ""},
		{[]string{"knock", "--method", "tcp-syn-"}, "tcp-syn-seq"},
		{[]string{"revoke", "--config", g.config, "--client", "a"}, "alice"},
		{[]string{"revoke", "--config", g.config, "--flow", ""}, clientAddr.String()},
		// bash ends words at a colon, and offers only what follows it.
		{[]string{"revoke", "--config", g.config, "--flow", clientAddr.Addr().String(), ":", "5"}, "50122"},
		{[]string{"trace", "--config", g.config, "--from", "10."}, "10.1.1.2"},
	} {
		cmd := exec.CommandContext(t.Context(), bash, append([]string{"--norc", "-c", complete, "bash", base, script, "knockgw"}, c.words...)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
		var errs strings.Builder
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if got := strings.TrimSpace(string(out)); err != nil || got != c.want {
			t.Errorf("%q: %q, want %q (%v, %s)", c.words, got, c.want, err, errs.String())
		}
	}
}
