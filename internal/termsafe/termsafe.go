// Package termsafe keeps what others have written from being more than text where it is shown: a terminal obeys control
// characters, and letters may be made to stand in another order than they were written.
package termsafe

import (
	"strconv"
	"strings"
)

// Text is text as it is, but for control characters (C0, DEL, C1) and those that turn the direction of writing: they
// are written as Go writes them, as in \x1b.
func Text(text string) string { return escape(text, "") }

// Lines is Text of several lines, whose ends and tabs stay.
func Lines(text string) string { return escape(text, "\n\t") }

// Name is a name as it is, or quoted as Go does if it has anything in it that is not printed.
func Name(name string) string {
	if quoted := strconv.Quote(name); quoted != `"`+name+`"` {
		return quoted
	}
	return name
}

// escape is Text, except for what is in stay. What is no UTF-8 is escaped too: a terminal of another encoding may
// obey it.
func escape(text, stay string) string {
	bad := func(r rune) bool {
		return hidden(r) && !strings.ContainsRune(stay, r)
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
