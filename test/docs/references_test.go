package docs

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// tracked returns the files of the repository that git tracks.
func tracked(t *testing.T) []string {
	t.Helper()
	files, err := exec.CommandContext(t.Context(), "git", "-C", root, "ls-files", "-z").Output()
	if err != nil {
		t.Skip(err)
	}
	return strings.Split(strings.TrimRight(string(files), "\x00"), "\x00")
}

func TestReferencesStayInRepository(t *testing.T) {
	for _, file := range tracked(t) {
		text, err := os.ReadFile(root + "/" + file)
		if err != nil {
			continue // deleted, or a link to nowhere
		}
		for _, name := range []string{"PROTOCOL" + ".md", "DESIGN" + ".md"} {
			if strings.Contains(string(text), name) {
				t.Errorf("%s refers to %s, which is not here", file, name)
			}
		}
	}
}

// A failure of rapid that is worth keeping becomes a test with a name.
func TestRapidFailuresAreNotCommitted(t *testing.T) {
	for _, file := range tracked(t) {
		if strings.HasSuffix(file, ".fail") {
			t.Errorf("%s is a failure that rapid has recorded", file)
		}
	}
}
