package migrate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/knockgw/knockgw/internal/strictyaml"
)

// source is their file: the values of the keys that we know, and what there is
// to say of them.
type source struct {
	*strictyaml.Report
	dir    string                // relative paths start from there
	keys   map[string]string     // every key there is; see keys.go
	nodes  map[string]*yaml.Node // of sections and elements of lists
	counts map[string]int        // elements of lists
	leaves map[string]*leaf
	order  []*leaf
	notes  []Note
}

// leaf is a key with a value.
type leaf struct {
	path    string // auth.clients[0].secret
	pattern string // auth.clients[].secret
	key     *yaml.Node
	value   *yaml.Node
	used    bool // something was made of it, or said
}

func newSource(r *strictyaml.Report, dir string) *source {
	return &source{Report: r, dir: dir, keys: keys(), nodes: map[string]*yaml.Node{}, counts: map[string]int{}, leaves: map[string]*leaf{}}
}

// read finds the leaves. An unknown key is a note; what hangs on it is not
// looked at, as it may be a secret.
func (s *source) read(root *yaml.Node) {
	s.readMapping(root, "", "")
}

func (s *source) readMapping(n *yaml.Node, path, pattern string) {
	s.nodes[path] = n
	m := strictyaml.Resolve(n)
	if m.Kind != yaml.MappingNode {
		s.Fail(n, path, "must be a mapping of keys to values, not %s", strictyaml.KindOf(m))
		return
	}
	first := map[string]int{}
	for i := 0; i+1 < len(m.Content); i += 2 {
		k, v := m.Content[i], m.Content[i+1]
		switch {
		case k.Kind != yaml.ScalarNode || k.Tag == "!!merge":
			s.Fail(k, path, "only plain keys can be read; write out what << or a reference stands for")
		case first[k.Value] != 0:
			s.Fail(k, join(path, k.Value), "is already given in line %d; remove one of them", first[k.Value])
		default:
			first[k.Value] = k.Line
			s.readKey(&leaf{path: join(path, k.Value), pattern: join(pattern, k.Value), key: k, value: v})
		}
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func (s *source) readKey(l *leaf) {
	_, known := s.keys[l.pattern]
	v := strictyaml.Resolve(l.value)
	switch {
	case known && !isNull(v):
		s.leaves[l.path] = l
		s.order = append(s.order, l)
	case known: // without a value there is nothing to make of it
	case s.hasPrefix(l.pattern + "[]."):
		s.readList(l, v)
	case s.hasPrefix(l.pattern + "."):
		if !isNull(v) {
			s.readMapping(l.value, l.path, l.pattern)
		}
	default:
		s.unknown(l)
	}
}

func (s *source) readList(l *leaf, v *yaml.Node) {
	switch {
	case isNull(v):
	case v.Kind != yaml.SequenceNode:
		s.Fail(l.value, l.path, "must be a list, not %s", strictyaml.KindOf(v))
	default:
		s.counts[l.path] = len(v.Content)
		for i, item := range v.Content {
			s.readMapping(item, fmt.Sprintf("%s[%d]", l.path, i), l.pattern+"[]")
		}
	}
}

// hasPrefix reports whether there are keys that begin so.
func (s *source) hasPrefix(prefix string) bool {
	for key := range s.keys {
		if strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return false
}

// maxShown is how many bytes of an unknown key are repeated.
const maxShown = 40

func (s *source) unknown(l *leaf) {
	parent, name := "", l.pattern
	if i := strings.LastIndexByte(l.pattern, '.'); i >= 0 {
		parent, name = l.pattern[:i+1], l.pattern[i+1:]
	}
	if len(name) > maxShown {
		name = strings.ToValidUTF8(name[:maxShown], "") + "..."
	}
	var siblings []string
	for key := range s.keys {
		if rest, ok := strings.CutPrefix(key, parent); ok {
			rest, _, _ = strings.Cut(rest, ".")
			siblings = append(siblings, strings.TrimSuffix(rest, "[]"))
		}
	}
	slices.Sort(siblings)
	text := fmt.Sprintf("unknown key %q: nothing was made of it", name)
	if near := strictyaml.Nearest(name, siblings); near != "" {
		text += "; did you mean " + near + "?"
	}
	s.notes = append(s.notes, Note{File: s.File(), Line: l.key.Line, Key: strings.TrimSuffix(l.path[:len(l.path)-len(l.key.Value)], "."),
		Text: oneLine(text), Warning: true})
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// oneLine makes a line of text that may have names with line ends in it.
func oneLine(text string) string { return strings.NewReplacer("\n", " ", "\r", " ").Replace(text) }

// has reports whether a key has a value.
func (s *source) has(path string) bool { return s.leaves[path] != nil }

// use is the value of a key, which so is used, or nil.
func (s *source) use(path string) *yaml.Node {
	l := s.leaves[path]
	if l == nil {
		return nil
	}
	l.used = true
	return strictyaml.Resolve(l.value)
}

// fail records a mistake in the value of a key, or in its section that it is
// missing.
func (s *source) fail(path, format string, args ...any) {
	if l := s.leaves[path]; l != nil {
		s.Fail(l.value, path, format, args...)
		return
	}
	section := path
	for s.nodes[section] == nil {
		section = section[:max(0, strings.LastIndexByte(section, '.'))]
	}
	s.Fail(s.nodes[section], path, format, args...)
}

// note says something of a key that is there.
func (s *source) note(path, format string, args ...any) { s.addNote(path, false, format, args...) }

// warn is note for what was safe, or worked, and is so no longer.
func (s *source) warn(path, format string, args ...any) { s.addNote(path, true, format, args...) }

func (s *source) addNote(path string, warning bool, format string, args ...any) {
	n := Note{File: s.File(), Key: path, Text: oneLine(fmt.Sprintf(format, args...)), Warning: warning}
	if l := s.leaves[path]; l != nil {
		n.Line = l.key.Line
		l.used = true
	}
	s.notes = append(s.notes, n)
}

// noteFile says something of the file as a whole.
func (s *source) noteFile(format string, args ...any) {
	s.notes = append(s.notes, Note{File: s.File(), Text: oneLine(fmt.Sprintf(format, args...))})
}

// allNotes is what was said, and what keys.go says of every key that nothing
// was made of, by line.
func (s *source) allNotes() []Note {
	for _, l := range s.order {
		if !l.used {
			s.note(l.path, "%s", s.keys[l.pattern])
		}
	}
	slices.SortStableFunc(s.notes, func(a, b Note) int { return cmp.Compare(a.Line, b.Line) })
	return s.notes
}

// text reads a key of text; a number is text too.
func (s *source) text(path string) (string, bool) {
	n := s.use(path)
	switch {
	case n == nil:
		return "", false
	case n.Kind != yaml.ScalarNode:
		s.fail(path, "must be text, not %s", strictyaml.KindOf(n))
		return "", false
	case n.Value == "":
		return "", false // as if it were not there
	}
	return n.Value, true
}

// flag reads true or false; otherwise is what an absent key stands for.
func (s *source) flag(path string, otherwise bool) bool {
	n := s.use(path)
	if n == nil {
		return otherwise
	}
	var v bool
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" || n.Decode(&v) != nil {
		s.fail(path, "must be true or false, not %s", strictyaml.KindOf(n))
		return otherwise
	}
	return v
}

// number reads a whole number. 0 is as if the key were not there, and is said
// to be.
func (s *source) number(path string) (int, bool) {
	n := s.use(path)
	if n == nil {
		return 0, false
	}
	var v int
	switch {
	case n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int":
		s.fail(path, "must be a whole number, not %s", strictyaml.KindOf(n))
	case n.Decode(&v) != nil:
		s.fail(path, "has more digits than any number here; write a smaller one")
	case v < 0:
		s.fail(path, "%d is less than nothing; write a number from 0", v)
	case v == 0:
		s.note(path, "0 is no number here; knockgw's default was left")
	default:
		return v, true
	}
	return 0, false
}

// bounded is number within a bound, to which it is brought with a note.
func (s *source) bounded(path, ours string, bound int) int {
	v, ok := s.number(path)
	if ok && v > bound {
		s.note(path, "%d became %d, the most that %s may be", v, bound, ours)
		return bound
	}
	return v
}

// seconds reads a time of whole seconds, brought within a bound with a note; 0
// for an absent key.
func (s *source) seconds(path, ours string, bound time.Duration) time.Duration {
	v, ok := s.number(path)
	if ok && v > int(bound/time.Second) {
		s.note(path, "%d s became %v, the most that %s may be", v, formatDuration(bound), ours)
		return bound
	}
	return time.Duration(v) * time.Second
}

// port reads a port.
func (s *source) port(path string) (uint16, bool) {
	const maxPort = 65535
	v, ok := s.number(path)
	if ok && v > maxPort {
		s.fail(path, "%d is not a port; write a number from 1 to %d", v, maxPort)
		return 0, false
	}
	return uint16(v), ok
}

// formatDuration is a time as people write it: 5m, not 5m0s.
func formatDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
