package termsafe

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Shell quotes a word for a POSIX shell, so that a command with it can be typed as
// it stands: the shell passes the word on unchanged and runs nothing that is in
// it. What a terminal obeys (control characters, changes of the direction of
// writing) and what is no UTF-8 is written as octal escapes in $'...', which bash,
// zsh, ksh and POSIX.1-2024 have; a shell that does not know it passes on another
// word, and runs nothing either.
//
// A word that begins with a dash stays an option of the program that gets it: the
// caller writes a path for it, as in ./-x.
func Shell(word string) string {
	if strings.IndexFunc(word, hidden) >= 0 || !utf8.ValidString(word) {
		return escapedWord(word)
	}
	if word != "" && strings.Trim(word, unquoted) == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// unquoted are the characters that mean themselves in every shell, wherever they
// stand. A tilde and an equals sign do so only in places.
const unquoted = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+:,./-"

// hidden reports whether a character is not to be shown as it is.
func hidden(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == unicode.ReplacementChar
}

// escapedWord writes a word with all that is hidden, byte by byte, as octal numbers.
func escapedWord(word string) string {
	var b strings.Builder
	b.WriteString("$'")
	for len(word) > 0 {
		r, n := utf8.DecodeRuneInString(word)
		switch {
		case r == '\'' || r == '\\' || hidden(r): // the first two would end it in a shell without $'...'
			for _, c := range []byte(word[:n]) {
				const octal, digits = 8, 3
				text := strconv.FormatUint(uint64(c), octal)
				b.WriteString(`\` + strings.Repeat("0", digits-len(text)) + text)
			}
		default:
			b.WriteString(word[:n])
		}
		word = word[n:]
	}
	b.WriteByte('\'')
	return b.String()
}
