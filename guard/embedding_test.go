package guard_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// plain is text without indentation and empty lines.
func plain(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			b.WriteString(line)
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// What docs/embedding.md shows is a part of an example, and so compiles.
func TestTheDocumentationShowsWhatCompiles(t *testing.T) {
	page, err := os.ReadFile("../docs/embedding.md")
	if err != nil {
		t.Fatal(err)
	}
	var examples strings.Builder
	for _, pattern := range []string{"../auth/example*_test.go", "../gateway/example*_test.go", "../metrics/example*_test.go", "example*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			examples.WriteString(plain(string(text)))
		}
	}
	blocks := strings.Split(string(page), "```go\n")[1:]
	if len(blocks) < 5 {
		t.Errorf("%d snippets", len(blocks))
	}
	for _, block := range blocks {
		snippet, _, closed := strings.Cut(block, "```")
		if !closed {
			t.Fatal("a snippet has no end")
		}
		if !strings.Contains(examples.String(), plain(snippet)) {
			t.Errorf("no example has this:\n%s", snippet)
		}
	}
}
