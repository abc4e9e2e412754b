package protocol

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// orHex is the remedy for a secret that contains such characters.
const orHex = "remove it; if it belongs to the secret, write the secret as hex:..."

// quoteMarks are quotation marks, including typographic ones.
const quoteMarks = "\"'`\u2018\u2019\u201c\u201d\u00ab\u00bb"

// plainFault returns an error if text probably contains something that is not
// part of the secret. It says where, and never repeats the text.
func plainFault(text string) error {
	switch {
	case strings.HasPrefix(text, "\uFEFF"):
		return errors.New("a byte order mark stands before the secret; save it as UTF-8 without one, or make a file with knockgw keygen --out")
	case strings.HasPrefix(text, "\xff\xfe"), strings.HasPrefix(text, "\xfe\xff"), strings.ContainsRune(text, 0):
		return errors.New("the secret is UTF-16 or binary, not text; save it as UTF-8, write bytes as hex:..., or make a file with knockgw keygen --out")
	case !utf8.ValidString(text):
		return errors.New("the secret is neither text nor hex:... nor base64:...; write bytes as hex:..., or make a file with knockgw keygen --out")
	}
	if lines := strings.Count(strings.TrimRight(text, "\r\n"), "\n") + 1; lines > 1 {
		return fmt.Errorf("there are %d lines, and a secret is one line; leave only the secret, without comments", lines)
	}
	if strings.HasSuffix(text, "\n") || strings.HasSuffix(text, "\r") {
		return errors.New("a line end stands after the secret; " + orHex)
	}
	if text == "" {
		return nil // ParseSecret reports that it is too short
	}

	first, _ := utf8.DecodeRuneInString(text)
	last, _ := utf8.DecodeLastRuneInString(text)
	switch {
	case unicode.IsSpace(first):
		return errors.New("white space stands before the secret; " + orHex)
	case unicode.IsSpace(last):
		return errors.New("white space stands after the secret; " + orHex)
	case strings.ContainsRune(quoteMarks, first):
		return errors.New("a quotation mark stands before the secret; " + orHex)
	case strings.ContainsRune(quoteMarks, last):
		return errors.New("a quotation mark stands after the secret; " + orHex)
	case first == '#', strings.Contains(text, " #"), strings.Contains(text, "\t#"):
		return errors.New("there is a comment (#) with the secret; " + orHex)
	}
	return hiddenFault(text)
}

// hiddenFault returns an error for an invisible character or a misplaced prefix.
func hiddenFault(text string) error {
	for i, r := range text {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("there is an invisible character (U+%04X) in the secret, after byte %d; "+orHex, r, i)
		}
	}
	lower := strings.ToLower(text)
	for _, prefix := range []string{hexPrefix, base64Prefix} {
		if at := strings.Index(lower, prefix); at >= 0 && !strings.HasPrefix(text, prefix) {
			if at == 0 {
				return fmt.Errorf("the secret begins with %s in capital letters; write it in small ones", prefix)
			}
			return fmt.Errorf("something stands before %s; remove it: a secret begins with %s, base64: or is plain text", prefix, hexPrefix)
		}
	}
	return nil
}
