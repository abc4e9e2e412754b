package strictyaml

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Section is one mapping of the file. The methods that read a key do not modify
// their target if the key is absent, and report an invalid value.
type Section struct {
	*Report
	Path   string // such as services[0]; empty at the top level
	Node   *yaml.Node
	values map[string]*yaml.Node
	Broken bool // not a mapping, or some keys were not read, so that missing keys are not reported
}

// NewSection reads n as a mapping with the given keys. It reports all errors,
// not only the first.
func (r *Report) NewSection(n *yaml.Node, path string, keys ...string) *Section {
	s := &Section{Report: r, Path: path, Node: n, values: map[string]*yaml.Node{}}
	n = Resolve(n)
	if n.Kind != yaml.MappingNode {
		r.Fail(s.Node, path, "must be a mapping of keys to values, not %s; its keys are %s", KindOf(n), strings.Join(keys, ", "))
		s.Broken = true
		return s
	}

	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		key := k.Value
		switch {
		case k.Kind != yaml.ScalarNode || !slices.Contains(keys, key):
			r.unknownKey(k, path, keys)
			s.Broken = true
		case first[key] != 0:
			r.Fail(k, s.Key(key), "is already given in line %d; remove one of them", first[key])
		case isNull(v):
			r.Fail(k, s.Key(key), "has no value; give it one, or remove the key")
			s.Broken = true
		default:
			s.values[key] = v
		}
		if first[key] == 0 {
			first[key] = k.Line
		}
	}
	return s
}

func (r *Report) unknownKey(k *yaml.Node, path string, keys []string) {
	switch near := Nearest(k.Value, keys); {
	case k.Kind != yaml.ScalarNode || k.Tag == "!!merge":
		r.Fail(k, path, "only plain keys are allowed here; write one of %s", strings.Join(keys, ", "))
	case near != "":
		r.Fail(k, path, "unknown key %q; did you mean %s?", k.Value, near)
	default:
		r.Fail(k, path, "unknown key %q; known here are %s", k.Value, strings.Join(keys, ", "))
	}
}

// Key returns the path of a key of the section.
func (s *Section) Key(name string) string {
	if s.Path == "" {
		return name
	}
	return s.Path + "." + name
}

// Has reports whether the key is present, even with an invalid value.
func (s *Section) Has(name string) bool { return s.values[name] != nil }

// Missing reports whether the key is absent, rather than not read.
func (s *Section) Missing(name string) bool { return s.values[name] == nil && !s.Broken }

// Value returns the value of a key, or nil if it is absent.
func (s *Section) Value(name string) *yaml.Node { return s.values[name] }

// At returns the node for errors about a key: its value, or the section if it
// is absent.
func (s *Section) At(name string) *yaml.Node {
	if n := s.values[name]; n != nil {
		return n
	}
	return s.Node
}

// FailKey records an error in the value of a key.
func (s *Section) FailKey(name, format string, args ...any) {
	s.Fail(s.At(name), s.Key(name), format, args...)
}

// Sub returns the section under a key, which is empty if the key is absent.
func (s *Section) Sub(name string, keys ...string) *Section {
	n := s.values[name]
	if n == nil {
		return &Section{Report: s.Report, Path: s.Key(name), Node: s.Node, values: map[string]*yaml.Node{}}
	}
	return s.NewSection(n, s.Key(name), keys...)
}

// Item is one element of a list and its path.
type Item struct {
	Node *yaml.Node
	Path string
}

// List returns the elements under a key, or nil if it is absent. An empty list
// is an error; empty says what to do.
func (s *Section) List(name, empty string) []Item {
	n := s.values[name]
	if n == nil {
		return nil
	}
	l := Resolve(n)
	if l.Kind != yaml.SequenceNode {
		s.FailKey(name, "must be a list, not %s; put it in brackets", KindOf(l))
		return nil
	}
	if len(l.Content) == 0 {
		s.FailKey(name, "is an empty list; %s", empty)
	}
	items := make([]Item, len(l.Content))
	for i, c := range l.Content {
		items[i] = Item{c, fmt.Sprintf("%s[%d]", s.Key(name), i)}
	}
	return items
}

// Texts calls f for each element of a list of texts. It reports and skips other
// elements.
func (s *Section) Texts(name, empty string, f func(it Item, text string)) {
	for _, it := range s.List(name, empty) {
		if text, ok := s.TextOf(it.Node, it.Path); ok {
			f(it, text)
		}
	}
}

// TextOf returns the text of a node. Errors do not contain it, since it may be
// a secret.
func (r *Report) TextOf(n *yaml.Node, path string) (string, bool) {
	v := Resolve(n)
	switch {
	case v.Kind != yaml.ScalarNode:
		r.Fail(n, path, "must be text, not %s; put it in quotes if it is meant as text", KindOf(v))
	case v.ShortTag() != "!!str":
		r.Fail(n, path, "must be text, not %s; put it in quotes", KindOf(v))
	case v.Value == "":
		r.Fail(n, path, "is empty; give it a value, or remove it")
	default:
		return v.Value, true
	}
	return "", false
}

// Text reads a text, and reports whether there was a valid one.
func (s *Section) Text(name string, to *string) bool {
	if !s.Has(name) {
		return false
	}
	text, ok := s.TextOf(s.values[name], s.Key(name))
	if ok {
		*to = text
	}
	return ok
}

// Boolean reads true or false.
func (s *Section) Boolean(name string, to *bool) {
	n := s.values[name]
	if n == nil {
		return
	}
	if v := Resolve(n); v.Kind != yaml.ScalarNode || v.ShortTag() != "!!bool" || v.Decode(to) != nil {
		s.FailKey(name, "must be true or false, not %s", KindOf(v))
	}
}

// Integer reads an integer from lower to upper.
func (s *Section) Integer(name string, to *int, lower, upper int) {
	n := s.values[name]
	if n == nil {
		return
	}
	if i, ok := s.IntegerOf(n, s.Key(name)); ok {
		if i < lower || i > upper {
			s.FailKey(name, "%d is out of range; write a number from %d to %d", i, lower, upper)
			return
		}
		*to = i
	}
}

// IntegerOf returns the integer of a node.
func (r *Report) IntegerOf(n *yaml.Node, path string) (i int, ok bool) {
	v := Resolve(n)
	if v.Kind != yaml.ScalarNode || v.ShortTag() != "!!int" {
		r.Fail(n, path, "must be a whole number, not %s", KindOf(v))
		return 0, false
	}
	if v.Decode(&i) != nil {
		r.Fail(n, path, "is too large; write a smaller number")
		return 0, false
	}
	return i, true
}

const maxPort = 65535

// Port reads a port, 1 to 65535.
func (s *Section) Port(name string, to *uint16) {
	port := int(*to)
	s.Integer(name, &port, 1, maxPort)
	*to = uint16(port) // checked
}

// Duration reads a duration with a unit, from lower to upper.
func (s *Section) Duration(name string, to *time.Duration, lower, upper time.Duration) {
	n := s.values[name]
	if n == nil {
		return
	}
	v := Resolve(n)
	if v.Kind != yaml.ScalarNode {
		s.FailKey(name, "must be a time such as %v, not %s", *to, KindOf(v))
		return
	}
	d, err := time.ParseDuration(v.Value)
	switch {
	case v.ShortTag() == "!!int" && err != nil:
		s.FailKey(name, "%s: a unit is missing; write %ss for seconds", v.Value, v.Value)
	case err != nil:
		s.FailKey(name, "%q is not a time; write it as %v or 1m30s", v.Value, *to)
	case d < lower || d > upper:
		s.FailKey(name, "%v is out of range; write a time from %v to %v", d, lower, upper)
	default:
		*to = d
	}
}

// Seconds is Duration for whole seconds.
func (s *Section) Seconds(name string, to *time.Duration, lower, upper time.Duration) {
	s.Duration(name, to, lower, upper)
	if d := *to; d%time.Second != 0 {
		s.FailKey(name, "%v is not a number of whole seconds; write %v", d, d.Truncate(time.Second))
	}
}

// Choice reads one of the given words.
func (s *Section) Choice(name string, to *string, words ...string) {
	var text string
	if !s.Text(name, &text) {
		return
	}
	if !slices.Contains(words, text) {
		last := len(words) - 1
		s.FailKey(name, "%q is not known; write %s or %s", text, strings.Join(words[:last], ", "), words[last])
		return
	}
	*to = text
}

// Integers reads a list of known numbers, which it sorts and deduplicates.
func (s *Section) Integers(name string, to *[]int, known []int) {
	if !s.Has(name) {
		return
	}
	list := make([]string, len(known))
	for i, n := range known {
		list[i] = strconv.Itoa(n)
	}
	last := len(list) - 1
	words := strings.Join(list[:last], ", ") + " or " + list[last]
	var read []int
	for _, it := range s.List(name, "name some of "+words+", or remove the key") {
		n, ok := s.IntegerOf(it.Node, it.Path)
		switch {
		case !ok:
		case !slices.Contains(known, n):
			s.Fail(it.Node, it.Path, "%d is not known; write %s", n, words)
		case !slices.Contains(read, n):
			read = append(read, n)
		}
	}
	slices.Sort(read)
	*to = read
}

// Resolve returns the node that an alias refers to, or n itself.
func Resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool {
	n = Resolve(n)
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

// IsEmptyText reports whether a node is an empty text.
func IsEmptyText(n *yaml.Node) bool {
	n = Resolve(n)
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str" && n.Value == ""
}

// KindOf describes the kind of a node, for errors.
func KindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!str":
		return "text"
	case "!!int":
		return "a number"
	case "!!float":
		return "a fraction"
	case "!!bool":
		return "true or false"
	case "!!null":
		return "nothing"
	case "!!timestamp":
		return "a date"
	default:
		return "this"
	}
}
