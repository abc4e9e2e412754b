package docs

import (
	"regexp"
	"strings"
	"testing"
)

// evidence is a test that a page names, with its directory.
var evidence = regexp.MustCompile("`(Test\\w+)` \\(([a-z0-9/]+)\\)")

// What docs/security.md claims is shown by tests that exist.
func TestSecurityNamesTestsThatExist(t *testing.T) {
	tests := texts(t, "_test.go")
	named := evidence.FindAllStringSubmatch(texts(t, "security.md")["docs/security.md"], -1)
	if len(named) == 0 {
		t.Fatal("docs/security.md names no tests")
	}
	for _, n := range named {
		found := false
		for path, text := range tests {
			dir, _, _ := cutLast(path, "/")
			found = found || dir == n[2] && strings.Contains(text, "func "+n[1]+"(")
		}
		if !found {
			t.Errorf("docs/security.md: there is no test %s in %s", n[1], n[2])
		}
	}
}

// cutLast is strings.Cut at the last separator.
func cutLast(s, separator string) (before, after string, found bool) {
	i := strings.LastIndex(s, separator)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(separator):], true
}
