package termsafe

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Shell quotes a word for a POSIX shell: a command with it can be typed as it
// is, and the shell passes the word on unchanged and executes nothing in it.
// Control and bidirectional characters and invalid UTF-8 are written as octal
// escapes in $'...', which bash, zsh, ksh and POSIX.1-2024 support; other
// shells pass on another word, and execute nothing either.
//
// A word that begins with a dash is still an option of the program that
// receives it: the caller must write it as a path, such as ./-x.
func Shell(word string) string {
	if strings.IndexFunc(word, hidden) >= 0 || !utf8.ValidString(word) {
		return escapedWord(word)
	}
	if word != "" && strings.Trim(word, unquoted) == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// unquoted are the characters without a special meaning in any shell, at any
// position. A tilde and an equals sign are special at some positions.
const unquoted = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+:,./-"

// hidden reports whether a character must be escaped.
func hidden(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == unicode.ReplacementChar
}

// escapedWord quotes a word with hidden characters, byte by byte as octal
// numbers.
func escapedWord(word string) string {
	var b strings.Builder
	b.WriteString("$'")
	for len(word) > 0 {
		r, n := utf8.DecodeRuneInString(word)
		switch {
		case r == '\'' || r == '\\' || hidden(r): // the first two would end the quotes in a shell without $'...'
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
