package strictyaml

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// read returns the top section of a text with the given keys.
func read(t *testing.T, text string, keys ...string) *Section {
	t.Helper()
	r := NewReport("test.yaml")
	root := r.Read([]byte(text))
	if root == nil {
		t.Fatal(r.Err())
	}
	return r.NewSection(root, "", keys...)
}

func TestSectionAbsentKeys(t *testing.T) {
	s := read(t, "other: 1", "other", "key")
	text, number, numbers, d, yes := "as it was", 7, []int{7}, time.Minute, true
	s.Text("key", &text)
	s.Choice("key", &text, "a", "b")
	s.Integer("key", &number, 1, 9)
	s.Integers("key", &numbers, []int{1, 2})
	s.Seconds("key", &d, time.Second, time.Hour)
	s.Boolean("key", &yes)
	if text != "as it was" || number != 7 || !slices.Equal(numbers, []int{7}) || d != time.Minute || !yes || s.Err() != nil {
		t.Errorf("%q, %d, %v, %v, %v, %v", text, number, numbers, d, yes, s.Err())
	}
	if s.Has("key") || !s.Missing("key") || s.Value("key") != nil {
		t.Error("a key that is not there is there")
	}
}

func TestSectionInvalidValues(t *testing.T) {
	for text, want := range map[string]string{
		"word: c":          `test.yaml:1: word: "c" is not known; write a or b`,
		"word: 1":          "test.yaml:1: word: must be text, not a number; put it in quotes",
		"list: [1, 3]":     "test.yaml:1: list[1]: 3 is not known; write 1 or 2",
		"list: []":         "test.yaml:1: list: is an empty list; name some of 1 or 2, or remove the key",
		"seconds: 1500ms":  "test.yaml:1: seconds: 1.5s is not a number of whole seconds; write 1s",
		"seconds: 30":      "test.yaml:1: seconds: 30: a unit is missing; write 30s for seconds",
		"seconds: 2h":      "test.yaml:1: seconds: 2h0m0s is out of range; write a time from 1s to 1h0m0s",
		"wrod: a":          `test.yaml:1: unknown key "wrod"; did you mean word?`,
		"word: a\nword: a": "test.yaml:2: word: is already given in line 1; remove one of them",
	} {
		s := read(t, text, "word", "list", "seconds")
		var word string
		var list []int
		var d time.Duration
		s.Choice("word", &word, "a", "b")
		s.Integers("list", &list, []int{1, 2})
		s.Seconds("seconds", &d, time.Second, time.Hour)
		if err := s.Err(); err == nil || err.Error() != want {
			t.Errorf("%s: %v\nwant %s", text, err, want)
		}
	}
}

func TestReportErrorOrder(t *testing.T) {
	s := read(t, "a: 1\nb: 2\n", "a", "b")
	other := s.InFile("other.yaml")
	second := other.NewSection(other.Read([]byte("\na: 1\n")), "", "a")
	second.FailKey("a", "is in %s", second.Place(s.Report, s.At("b")))
	other.FailFile(nil, "is odd")
	s.FailKey("b", "is in %s", s.Place(s.Report, s.At("a")))
	s.FailKey("a", "is in %s", s.Place(second.Report, second.At("a")))
	s.Warn(s.At("a"), "a", "is dull")
	want := []string{
		"test.yaml:1: a: is in other.yaml, line 2", "test.yaml:2: b: is in line 1",
		"other.yaml: is odd", "other.yaml:2: a: is in test.yaml, line 2",
	}
	if got := s.Err().Error(); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	if got := other.Warnings(); !slices.Equal(got, []string{"test.yaml:1: a: is dull"}) {
		t.Errorf("the warnings are %q", got)
	}
	if s.Failures() != 4 {
		t.Errorf("%d failures", s.Failures())
	}
}

func FuzzRead(f *testing.F) {
	for _, seed := range []string{"", "a: 1", "a: [1, {b: c}]", "a: &x [*x]", "---\n---\n", "a: b: c\n", "upstream: original:", "\xff"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := NewReport("fuzz.yaml")
		root := r.Read(data)
		if (root == nil) != (r.Err() != nil) {
			t.Fatalf("a root %v and the mistakes %v", root, r.Err())
		}
		if root != nil {
			s := r.NewSection(root, "", "a", "b")
			s.Texts("a", "name one", func(Item, string) {})
			s.Sub("b", "c")
			if err := r.Err(); err != nil && strings.Contains(err.Error(), "\r") {
				t.Errorf("%q is not lines", err)
			}
		}
	})
}
