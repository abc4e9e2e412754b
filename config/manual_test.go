package config

import (
	"go/ast"
	goparser "go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// manual is the documentation of the keys.
const manual = "../docs/configuration.md"

// parsedKeys returns the keys of the sections of the file, as in the parser: the
// arguments after the path of NewSection, and after the name of Sub.
func parsedKeys(t *testing.T) map[string]bool {
	t.Helper()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	keys := make(map[string]bool)
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := goparser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			fun, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || fun.Sel.Name != "NewSection" && fun.Sel.Name != "Sub" {
				return true
			}
			for _, arg := range call.Args {
				if lit, ok := arg.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					if key, err := strconv.Unquote(lit.Value); err == nil && key != "" {
						keys[key] = true
					}
				}
			}
			return true
		})
	}
	return keys
}

var documentedKey = regexp.MustCompile("(?m)^\\| `([a-z_.\\[\\]]+)` \\|")

func TestManualListsAllKeys(t *testing.T) {
	b, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	keys := parsedKeys(t)
	if len(keys) < 40 { // there are more; else they are made in another way by now
		t.Fatalf("found the keys %v only", keys)
	}
	for key := range keys {
		if !regexp.MustCompile(`\b` + key + `\b`).Match(b) {
			t.Errorf("%s has no key %s", manual, key)
		}
	}
	rows := documentedKey.FindAllStringSubmatch(string(b), -1)
	if len(rows) == 0 {
		t.Fatalf("%s has no table of keys", manual)
	}
	for _, m := range rows {
		for part := range strings.SplitSeq(strings.ReplaceAll(m[1], "[]", ""), ".") {
			if !keys[part] {
				t.Errorf("%s has the key %s, which is not taken", manual, m[1])
			}
		}
	}
}
