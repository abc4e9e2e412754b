package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// root is the repository.
const root = "../.."

// texts returns the files of the repository with one of these endings, by their
// paths in it.
func texts(t *testing.T, endings ...string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") || name == "testdata" || strings.HasPrefix(name, "bench-out")) {
				return filepath.SkipDir
			}
			return nil
		}
		for _, ending := range endings {
			if strings.HasSuffix(name, ending) {
				b, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				in, err := filepath.Rel(root, path)
				all[filepath.ToSlash(in)] = string(b)
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var (
	link     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading  = regexp.MustCompile(`(?m)^#+ (.*)$`)
	fence    = regexp.MustCompile("(?ms)^ *```.*?^ *```")
	mention  = regexp.MustCompile(`\bdocs/[a-z0-9-]+\.md`)
	quoted   = regexp.MustCompile("`([a-z0-9_-]+(?:/[a-z0-9_-]+)*/[a-z0-9_-]+\\.[a-z]+)`")
	testName = regexp.MustCompile(`go test[^\n` + "`" + `]* -run (Test\w+)[^\n` + "`" + `]* \./([a-z0-9/]+)`)
	notWord  = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors are what the headings of a page can be linked by.
func anchors(page string) map[string]bool {
	all := make(map[string]bool)
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(page, ""), -1) {
		all[strings.ReplaceAll(notWord.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")] = true
	}
	return all
}

func TestLinksResolve(t *testing.T) {
	pages := texts(t, ".md")
	for name, text := range pages {
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, ":") {
				continue // elsewhere
			}
			path := name
			if target != "" {
				path = filepath.ToSlash(filepath.Join(filepath.Dir(name), target))
			}
			if _, err := os.Stat(filepath.Join(root, path)); err != nil {
				t.Errorf("%s links to %s, which is not there", name, m[1])
			} else if anchor != "" && !anchors(pages[path])[anchor] {
				t.Errorf("%s links to %s, which has no such heading", name, m[1])
			}
		}
	}
}

func TestNamedPagesExist(t *testing.T) {
	for name, text := range texts(t, ".md", ".go", ".yaml", ".yml", ".json", ".sh", ".service") {
		for _, page := range mention.FindAllString(text, -1) {
			if _, err := os.Stat(filepath.Join(root, page)); err != nil {
				t.Errorf("%s names %s, which is not there", name, page)
			}
		}
	}
}

func TestNamedFilesAndTestsExist(t *testing.T) {
	code := texts(t, "_test.go")
	for name, text := range texts(t, ".md") {
		for _, m := range quoted.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(root, m[1])); err == nil {
				continue
			}
			if first, _, _ := strings.Cut(m[1], "/"); exists(filepath.Join(root, first)) {
				t.Errorf("%s names %s, which is not there", name, m[1])
			}
		}
		for _, m := range testName.FindAllStringSubmatch(text, -1) {
			found := false
			for file, source := range code {
				found = found || filepath.ToSlash(filepath.Dir(file)) == m[2] && strings.Contains(source, "\nfunc "+m[1])
			}
			if !found {
				t.Errorf("%s names %s of %s, which is not there", name, m[1], m[2])
			}
		}
	}
}

// exists: other paths in quotes are the reader's, not the repository's.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
