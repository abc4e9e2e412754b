package guard_test

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// plain returns text without indentation and empty lines.
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

// The snippets of docs/embedding.md are parts of examples, so they compile.
func TestDocumentationSnippetsAreInExamples(t *testing.T) {
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

// defined are names that a snippet may use without defining them: predeclared
// ones, packages, and results of the snippet before it.
var defined = strings.Fields(`nil true false string byte error int len append make any
	admission auth client config context gateway guard log metrics net http os filepath prometheus protocol fmt time io
	events alice listener conn ctx`)

func TestDocumentationSnippetsDefineTheirNames(t *testing.T) {
	page, err := os.ReadFile("../docs/embedding.md")
	if err != nil {
		t.Fatal(err)
	}
	for i, block := range strings.Split(string(page), "```go\n")[1:] {
		snippet, _, _ := strings.Cut(block, "```")
		text := "package p\nfunc _() {\n" + snippet + "\n}\n"
		if strings.HasPrefix(strings.TrimSpace(snippet), "Services:") {
			text = "package p\nvar _ = guard.Options{\n" + snippet + "\n}\n"
		}
		file, err := parser.ParseFile(token.NewFileSet(), "embedding.md", text, 0)
		if err != nil {
			t.Errorf("snippet %d: %v", i+1, err)
			continue
		}
		for _, name := range file.Unresolved {
			if !slices.Contains(defined, name.Name) {
				t.Errorf("snippet %d uses %s, which nothing defines", i+1, name.Name)
			}
		}
		if i == 0 && !strings.Contains(snippet, "alice, err :=") {
			t.Error("the first program does not define alice")
		}
	}
}
