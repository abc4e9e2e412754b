package docs

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestReferencesStayInRepository(t *testing.T) {
	files, err := exec.Command("git", "-C", "../..", "ls-files", "-z").Output()
	if err != nil {
		t.Skip(err)
	}
	for _, file := range strings.Split(strings.TrimRight(string(files), "\x00"), "\x00") {
		text, err := os.ReadFile("../../" + file)
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
