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

// source is the input file: the values of known keys, and the notes about them.
type source struct {
	*strictyaml.Report
	dir    string                // base of relative paths
	keys   map[string]string     // every known key; see keys.go
	nodes  map[string]*yaml.Node // of sections and list elements
	counts map[string]int        // of list elements
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
	used    bool // it was converted, or there is a note about it
}

func newSource(r *strictyaml.Report, dir string) *source {
	return &source{Report: r, dir: dir, keys: keys(), nodes: map[string]*yaml.Node{}, counts: map[string]int{}, leaves: map[string]*leaf{}}
}

// read finds the leaves. For an unknown key it adds a note; the value is not
// used, since it may be a secret.
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
			s.Fail(k, path, "only plain keys are supported; replace << or the reference by its content")
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
	case known: // without a value there is nothing to convert
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

// hasPrefix reports whether there are keys with the prefix.
func (s *source) hasPrefix(prefix string) bool {
	for key := range s.keys {
		if strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return false
}

// maxShown limits the bytes of an unknown key in a note.
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
	text := fmt.Sprintf("unknown key %q: not converted", name)
	if near := strictyaml.Nearest(name, siblings); near != "" {
		text += "; did you mean " + near + "?"
	}
	s.notes = append(s.notes, Note{File: s.File(), Line: l.key.Line, Key: strings.TrimSuffix(l.path[:len(l.path)-len(l.key.Value)], "."),
		Text: oneLine(text), Warning: true})
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// oneLine replaces the line ends of text, which may contain names with line
// ends.
func oneLine(text string) string { return strings.NewReplacer("\n", " ", "\r", " ").Replace(text) }

// has reports whether a key has a value.
func (s *source) has(path string) bool { return s.leaves[path] != nil }

// use marks a key as used and returns its value, or nil.
func (s *source) use(path string) *yaml.Node {
	l := s.leaves[path]
	if l == nil {
		return nil
	}
	l.used = true
	return strictyaml.Resolve(l.value)
}

// fail records an error in the value of a key, or in its section if the key is
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

// note adds a note about a key that is present.
func (s *source) note(path, format string, args ...any) { s.addNote(path, false, format, args...) }

// warn is note for something that was safe or worked and no longer is or does.
func (s *source) warn(path, format string, args ...any) { s.addNote(path, true, format, args...) }

func (s *source) addNote(path string, warning bool, format string, args ...any) {
	n := Note{File: s.File(), Key: path, Text: oneLine(fmt.Sprintf(format, args...)), Warning: warning}
	if l := s.leaves[path]; l != nil {
		n.Line = l.key.Line
		l.used = true
	}
	s.notes = append(s.notes, n)
}

// noteFile adds a note about the file as a whole.
func (s *source) noteFile(format string, args ...any) {
	s.notes = append(s.notes, Note{File: s.File(), Text: oneLine(fmt.Sprintf(format, args...))})
}

// allNotes returns the notes, and those of keys.go for every key that was not
// used, sorted by line.
func (s *source) allNotes() []Note {
	for _, l := range s.order {
		if !l.used {
			s.note(l.path, "%s", s.keys[l.pattern])
		}
	}
	slices.SortStableFunc(s.notes, func(a, b Note) int { return cmp.Compare(a.Line, b.Line) })
	return s.notes
}

// text reads a text; a number is also accepted.
func (s *source) text(path string) (string, bool) {
	n := s.use(path)
	switch {
	case n == nil:
		return "", false
	case n.Kind != yaml.ScalarNode:
		s.fail(path, "must be text, not %s", strictyaml.KindOf(n))
		return "", false
	case n.Value == "":
		return "", false // as if absent
	}
	return n.Value, true
}

// flag reads true or false; def is the default.
func (s *source) flag(path string, def bool) bool {
	n := s.use(path)
	if n == nil {
		return def
	}
	var v bool
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" || n.Decode(&v) != nil {
		s.fail(path, "must be true or false, not %s", strictyaml.KindOf(n))
		return def
	}
	return v
}

// number reads an integer. 0 means the default, and adds a note.
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
		s.fail(path, "is too large; write a smaller number")
	case v < 0:
		s.fail(path, "%d is negative; write 0 or more", v)
	case v == 0:
		s.note(path, "0 has no effect; the default of knockgw applies")
	default:
		return v, true
	}
	return 0, false
}

// bounded reads an integer, and reduces it to bound with a note.
func (s *source) bounded(path, ours string, bound int) int {
	v, ok := s.number(path)
	if ok && v > bound {
		s.note(path, "%d became %d, the maximum of %s", v, bound, ours)
		return bound
	}
	return v
}

// seconds reads a number of seconds, and reduces it to bound with a note. It
// returns 0 for an absent key.
func (s *source) seconds(path, ours string, bound time.Duration) time.Duration {
	v, ok := s.number(path)
	if ok && v > int(bound/time.Second) {
		s.note(path, "%d s became %v, the maximum of %s", v, formatDuration(bound), ours)
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

// formatDuration formats a duration in short form: 5m, not 5m0s.
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
