package termsafe

import "testing"

func TestTextEscapesControlCharacters(t *testing.T) {
	for text, want := range map[string][2]string{
		"":                       {"", ""},
		"alice's größe 日本 \\ 🙂":  {"alice's größe 日本 \\ 🙂", "alice's größe 日本 \\ 🙂"},
		"\x1b[2Jgone":            {`\x1b[2Jgone`, `\x1b[2Jgone`},
		"C1 \u009b2J":            {`C1 \u009b2J`, `C1 \u009b2J`},
		"\x7f\x00\b\r":           {`\x7f\x00\b\r`, `\x7f\x00\b\r`},
		"two\nlines\tand a tab":  {`two\nlines\tand a tab`, "two\nlines\tand a tab"},
		"\u202egnp.exe\u2066":    {`\u202egnp.exe\u2066`, `\u202egnp.exe\u2066`},
		"Latin-1's C1 \x9b here": {`Latin-1's C1 \ufffd here`, `Latin-1's C1 \ufffd here`},
	} {
		if got := [2]string{Text(text), Lines(text)}; got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestNameQuotesUnprintable(t *testing.T) {
	for name, want := range map[string]string{"alice": "alice", "a b": "a b", "a\nb": `"a\nb"`, `a"b`: `"a\"b"`, "\u202eecila": `"\u202eecila"`} {
		if got := Name(name); got != want {
			t.Errorf("%q is shown as %s, want %s", name, got, want)
		}
	}
}
