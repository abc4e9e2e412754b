package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// commandPattern matches a knockgw command line in a page: in a code block,
// which is indented or marked sh, or in quotes.
var (
	commandPattern = regexp.MustCompile("(?m)(?:^    +|`)(?:sudo |\\$ |# )?knockgw ([a-z][^`\\n|'>]*)")
	shell          = regexp.MustCompile("(?ms)^```sh.*?^```")
	newLine        = regexp.MustCompile(`(?m)^`)
	flagName       = regexp.MustCompile(`^--?[a-z][a-z0-9-]*`)
)

// pages are the manual and the README, by their paths.
func pages(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, name := range append(names, "../../README.md", "../../examples/README.md") {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(b), "\\\n", " ")
		all[name] = shell.ReplaceAllStringFunc(text, func(block string) string { return newLine.ReplaceAllString(block, "    ") })
	}
	return all
}

// hasFlag reports whether a command has a flag, written as --name or -n.
func hasFlag(c *cobra.Command, flag string) bool {
	c.InitDefaultHelpFlag()
	name, long := strings.CutPrefix(flag, "--")
	if long {
		return c.Flag(name) != nil
	}
	return c.Flags().ShorthandLookup(flag[1:2]) != nil
}

func TestDocsNameExistingCommands(t *testing.T) {
	seen := 0
	for page, text := range pages(t) {
		for _, m := range commandPattern.FindAllStringSubmatch(text, -1) {
			line := strings.TrimSpace(m[1])
			words := strings.Fields(line)
			switch words[0] {
			case "completion", "help":
				continue // cobra's, which it makes when it is run
			case "udp-v2":
				continue // no command: labels begin so, from which its keys are made
			}
			c, _, err := command().Find(words)
			if err != nil || !c.HasParent() {
				t.Errorf("%s: there is no command knockgw %s", page, line)
				continue
			}
			seen++
			for _, w := range words {
				if w == "--" || w == "#" {
					break // what follows is another's
				}
				if f := flagName.FindString(w); f != "" && !hasFlag(c, f) {
					t.Errorf("%s: knockgw %s: there is no %s", page, line, f)
				}
			}
		}
	}
	if seen < 50 { // there are more; else they are written in another way by now
		t.Errorf("found %d command lines only", seen)
	}
}
