//go:build gen

package cli

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/cpuguy83/go-md2man/v2/md2man"

	"github.com/knockgw/knockgw/internal/buildinfo"
)

// configPage writes the manual page knockgw.yaml(5) to a file, from
// docs/configuration.md.
func configPage(file, markdown string, epoch time.Time) error {
	text, err := os.ReadFile(markdown)
	if err != nil {
		return err
	}
	page := fmt.Sprintf("%% \"KNOCKGW.YAML\" \"5\" %q %q \"knockgw\"\n"+
		"# NAME\n\nknockgw.yaml - the configuration of knockgw, a gateway that hides network services\n\n"+
		"# DESCRIPTION\n%s\n# SEE ALSO\n\n**knockgw(1)**, **knockgw-run(1)**, **knockgw-check(1)**\n",
		epoch.Format("Jan 2006"), "knockgw "+buildinfo.This().Version, terms(string(text)))
	return os.WriteFile(file, md2man.Render([]byte(page)), 0o644) //nolint:gosec // public
}

// seeConfig adds knockgw.yaml(5) to the SEE ALSO section of a manual page.
func seeConfig(file string) error {
	page, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	page = append(bytes.TrimRight(page, "\n"), ", \\fBknockgw.yaml(5)\\fP\n"...)
	return os.WriteFile(file, page, 0o644) //nolint:gosec // public
}

var (
	tableRule = regexp.MustCompile(`^\|[-|]+\|$`)
	title     = regexp.MustCompile(`(?m)^# .*$`)
	see       = regexp.MustCompile(`docs/([a-z0-9-]+\.md)`)
)

// terms makes each table row a term with a description, as manual pages have
// them: a terminal is too narrow for the tables. It omits the document's title,
// makes its sections those of the page, and replaces links by the paths in the
// packages.
func terms(markdown string) string {
	var page strings.Builder
	lines := strings.Split(title.ReplaceAllString(markdown, ""), "\n")
	for i, line := range lines {
		switch {
		case tableRule.MatchString(line), i+1 < len(lines) && tableRule.MatchString(lines[i+1]): // the table's heading
		case strings.HasPrefix(line, "|"):
			cells := strings.Split(line, "|")[1:]
			term, means := strings.TrimSpace(cells[0]), strings.TrimSpace(cells[len(cells)-2])
			if middle := strings.TrimSpace(cells[1]); len(cells) == 4 && middle != "" {
				term += " (" + middle + ")"
			}
			fmt.Fprintf(&page, "\n%s\n: %s\n", term, means)
		default:
			fmt.Fprintln(&page, strings.Replace(line, "## ", "# ", 1))
		}
	}
	return see.ReplaceAllString(page.String(), "/usr/share/doc/knockgw/$1")
}
