package filter

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	sumsFile     = "program.sha256" // as sha256sum prints it, after a comment with the compiler's version
	generateFile = "generate_linux.go"
	makeObjects  = "run make generate (CONTRIBUTING.md)"
)

var objectFiles = []string{"program_bpfel.o", "program_bpfeb.o"}

// readSums returns the sums of files, and the version of the compiler.
func readSums(t *testing.T) (sums map[string]string, compiler string) {
	t.Helper()
	f, err := os.Open(sumsFile)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()

	sums = make(map[string]string)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if version, ok := strings.CutPrefix(lines.Text(), "# "); ok {
			compiler = version
			continue
		}
		sum, name, ok := strings.Cut(lines.Text(), "  ")
		if !ok {
			t.Fatalf("%s: %q is no sum", sumsFile, lines.Text())
		}
		sums[name] = sum
	}
	return sums, compiler
}

// The committed objects are those of the committed sources and flags.
func TestObjectsMatchSources(t *testing.T) {
	sources, err := filepath.Glob("bpf/*.[ch]")
	if err != nil || len(sources) == 0 {
		t.Fatal(sources, err)
	}
	sums, _ := readSums(t)
	files := slices.Concat(sources, objectFiles, []string{generateFile})
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(b)
		if got := hex.EncodeToString(sum[:]); got != sums[filepath.ToSlash(name)] {
			t.Errorf("%s is not the file that %s records: %s", name, sumsFile, makeObjects)
		}
	}
	if len(sums) != len(files) {
		t.Errorf("%s has %d files, want %d: %s", sumsFile, len(sums), len(files), makeObjects)
	}
}
