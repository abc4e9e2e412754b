package termsafe

import (
	"os/exec"
	"strings"
	"testing"
	"unicode"
)

// hostileWords are values that the owner of a file may write to it.
func hostileWords() []string {
	return []string{
		"", "eth0", "/etc/knockgw/knockgw.yaml", "a b", "~", "~root", "a=b", "#x", "-rf", "!!", "!x", "*", "[a]", "{a,b}",
		"; reboot", "$(reboot)", "`reboot`", "a'b", `a"b`, `a\b`, `\`, "'", "''", "a'; reboot #", "$'x'", "$HOME", "${IFS}x",
		"a\nreboot", "a\r\nb", "a\tb", "\x1b[2Jgone", "\x1b]0;title\x07", "\x7f", "a\x01b'c\\d", "C1 \u009b", "\u202egnp.exe",
		"\xff\xfe", "größe", "日本", "a&b", "a|b", "a<b>c", "a\\\nb", "\u2028", "tail\\", "tail\n",
	}
}

func TestShellRoundTrip(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("bash is missing")
	}
	for _, word := range hostileWords() {
		quoted := Shell(word)
		out, err := exec.CommandContext(t.Context(), bash, "-c", "printf '%s|' "+quoted+" end").CombinedOutput()
		if got, ok := strings.CutSuffix(string(out), "|end|"); err != nil || !ok || got != word {
			t.Errorf("%q is quoted as %s, which bash expands to %q (%v)", word, quoted, out, err)
		}
	}
}

// A shell without $'...' receives another word, and executes nothing either.
func TestShellWithoutDollarQuotes(t *testing.T) {
	for _, word := range hostileWords() {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", "set -- "+Shell(word)+"; echo $#").CombinedOutput()
		if string(out) != "1\n" || err != nil {
			t.Errorf("%q: sh makes %q of %s (%v)", word, out, Shell(word), err)
		}
	}
}

func TestShellEscapesControlCharacters(t *testing.T) {
	for _, word := range hostileWords() {
		quoted := Shell(word)
		if strings.IndexFunc(quoted, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }) >= 0 {
			t.Errorf("%q is shown as %q", word, quoted)
		}
	}
}

func FuzzShell(f *testing.F) {
	for _, word := range hostileWords() {
		f.Add(word)
	}
	f.Fuzz(func(t *testing.T, word string) {
		if strings.ContainsRune(word, 0) {
			t.Skip("no shell has such a word")
		}
		quoted := Shell(word)
		out, err := exec.CommandContext(t.Context(), "bash", "-c", "printf '%s|' "+quoted+" end").CombinedOutput()
		if got, ok := strings.CutSuffix(string(out), "|end|"); err != nil || !ok || got != word {
			t.Errorf("%q is quoted as %s, which bash expands to %q (%v)", word, quoted, out, err)
		}
	})
}
