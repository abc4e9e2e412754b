// Package termsafe makes text from outside safe to print on a terminal, which
// obeys control characters, and on which letters can be made to appear in
// another order than written.
package termsafe

import (
	"strconv"
	"strings"
)

// Text escapes control characters (C0, DEL, C1) and characters that change the
// direction of writing, in the syntax of Go, for example \x1b.
func Text(text string) string { return escape(text, "") }

// Lines is Text for several lines: line ends and tabs are kept.
func Lines(text string) string { return escape(text, "\n\t") }

// Name returns a name unchanged, or quoted in the syntax of Go if it contains
// anything that is not printable.
func Name(name string) string {
	if quoted := strconv.Quote(name); quoted != `"`+name+`"` {
		return quoted
	}
	return name
}

// escape is Text, except for the characters in keep. Invalid UTF-8 is escaped
// too: a terminal with another encoding may obey it.
func escape(text, keep string) string {
	bad := func(r rune) bool {
		return hidden(r) && !strings.ContainsRune(keep, r)
	}
	if strings.IndexFunc(text, bad) < 0 {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if bad(r) {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}
