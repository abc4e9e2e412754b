// Package exampletest checks that a package has an example for each exported
// name.
package exampletest

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// RequireExamples fails the test unless each exported name of the package in
// the working directory, whose name is this, is in an example that runs: it has
// an example of its own, or another example uses it. Methods are compared by
// name only.
func RequireExamples(t *testing.T, this string) {
	t.Helper()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		f, err := parser.ParseFile(set, name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if f.Name.Name == this && strings.HasSuffix(name, "_test.go") {
			continue // examples are of another package
		}
		files = append(files, f)
	}
	pkg, err := doc.NewFromFiles(set, files, "github.com/knockgw/knockgw/"+this)
	if err != nil {
		t.Fatal(err)
	}

	var titles []string
	used := make(map[string]bool) // selectors; names of the package with its name before them
	var tests []*ast.File
	for _, f := range files {
		if f.Name.Name != this {
			tests = append(tests, f)
		}
	}
	for _, e := range doc.Examples(tests...) {
		if e.Output == "" && !e.EmptyOutput {
			t.Errorf("Example%s has no output, so it does not run", e.Name)
			continue
		}
		titles = append(titles, e.Name)
		ast.Inspect(e.Code, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				used[s.Sel.Name] = true
				if x, ok := s.X.(*ast.Ident); ok && x.Name == this {
					used[this+"."+s.Sel.Name] = true
				}
			}
			return true
		})
	}

	want := func(title, use string) {
		for _, have := range titles {
			if have == title || strings.HasPrefix(have, title+"_") {
				return
			}
		}
		if !used[use] {
			t.Errorf("no example uses %s: write Example%s, with its output", strings.ReplaceAll(title, "_", "."), title)
		}
	}

	funcs := pkg.Funcs
	for _, typ := range pkg.Types {
		want(typ.Name, this+"."+typ.Name)
		funcs = append(funcs, typ.Funcs...)
		for _, m := range typ.Methods {
			want(typ.Name+"_"+m.Name, m.Name)
		}
	}
	for _, f := range funcs {
		want(f.Name, this+"."+f.Name)
	}
	if len(titles) == 0 || len(funcs) == 0 {
		t.Error("nothing was compared")
	}
}
