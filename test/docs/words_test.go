package docs

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// vague matches words that name no actor, and phrases for "reports whether".
var vague = regexp.MustCompile(`(?i)\b(tells? whether|says? whether|whoever|no` + `body|some` + `body|every` + `body)\b`)

// The actor is the caller, the client, an attacker, another process; a
// predicate reports whether something holds. (The Unix account 65534 is named
// by its number.)
func TestTextsNameTheirActors(t *testing.T) {
	for _, file := range tracked(t) {
		if strings.HasSuffix(file, "words_test.go") || strings.Contains(file, "testdata/vectors") || file == "LICENSE" || file == "go.sum" {
			continue
		}
		text, err := os.ReadFile(root + "/" + file)
		if err != nil || strings.ContainsRune(string(text), 0) {
			continue // deleted, a link to nowhere, or binary
		}
		for i, line := range strings.Split(string(text), "\n") {
			if m := vague.FindString(line); m != "" {
				t.Errorf("%s:%d says %q", file, i+1, m)
			}
		}
	}
}
