package filter

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/knockgw/knockgw/internal/testtool"
)

// generateCommand returns the arguments of the go:generate directive that
// compiles the objects.
func generateCommand(t *testing.T) []string {
	t.Helper()
	source, err := os.ReadFile(generateFile)
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(source), "\n//go:generate ")
	line, _, _ = strings.Cut(line, "\n")
	var args []string
	for i, part := range strings.Split(line, `"`) {
		if i%2 == 1 { // quoted
			args = append(args, part)
		} else {
			args = append(args, strings.Fields(part)...)
		}
	}
	if len(args) < 3 || args[2] != "bpf2go" {
		t.Fatalf("%s: %q does not run bpf2go", generateFile, line)
	}
	return args
}

var major = regexp.MustCompile(`clang version (\d+)`)

// The same compiler makes the same instructions and maps of the sources. (Its
// minor versions may differ in debugging information.)
func TestObjectsRecompileTheSame(t *testing.T) {
	testtool.Require(t, "clang", "llvm-strip")
	_, recorded := readSums(t)
	version, err := exec.Command("clang", "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	have, want := major.FindStringSubmatch(string(version)), major.FindStringSubmatch(recorded)
	if have == nil || want == nil {
		t.Fatalf("no version in %q or %q", version, recorded)
	}
	if have[1] != want[1] {
		t.Skipf("clang %s is installed, and the objects are of clang %s", have[1], want[1])
	}

	dir, args := t.TempDir(), generateCommand(t)
	args = append([]string{args[1], args[2], "-output-dir", dir, "-go-package", "filter"}, args[3:]...)
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range objectFiles {
		for _, file := range []string{name, strings.TrimSuffix(name, ".o") + ".go"} {
			committed, compiled := readFile(t, file), readFile(t, filepath.Join(dir, file))
			if bytes.Equal(committed, compiled) {
				continue
			}
			if filepath.Ext(file) == ".go" || contentsOf(t, committed) != contentsOf(t, compiled) {
				t.Errorf("%s is not what bpf/ compiles to: %s", file, makeObjects)
			}
		}
	}
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// contentsOf lists the instructions and the maps of an object.
func contentsOf(t *testing.T, object []byte) string {
	t.Helper()
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for name, p := range spec.Programs {
		fmt.Fprintf(&b, "%s %v %s\n", name, p.Type, p.License)
		for _, i := range p.Instructions {
			fmt.Fprintf(&b, "%s: %v\n", i.Symbol(), i)
		}
	}
	for _, name := range []string{
		programMapDropped, programMapEntries, programMapExpected, programMapMarks, programMapServices,
		".data.control", ".rodata",
	} {
		m := spec.Maps[name]
		fmt.Fprintf(&b, "%s %v %d %d %d %d\n", name, m.Type, m.KeySize, m.ValueSize, m.MaxEntries, m.Flags)
	}
	return b.String()
}

// Reason in Go and enum reason in C have the same names and values.
func TestReasonsMatchProgram(t *testing.T) {
	spec, err := loadProgram()
	if err != nil {
		t.Fatal(err)
	}
	var reasons *btf.Enum
	if err := spec.Types.TypeByName("reason", &reasons); err != nil {
		t.Fatal(err)
	}
	if len(reasons.Values) != int(reasonCount)+1 {
		t.Errorf("the program has %d reasons, want %d", len(reasons.Values)-1, reasonCount)
	}
	for _, v := range reasons.Values[:reasonCount] {
		name := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(v.Name, "REASON_")), "_", "-")
		if got := Reason(v.Value).String(); got != name {
			t.Errorf("reason %d is %q, in the program %q", v.Value, got, name)
		}
	}
}
