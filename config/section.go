package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// section is one mapping of the file, read key by key. Its readers leave their target alone when the key
// is absent, and report what is there and wrong.
type section struct {
	*report
	path   string // services[0]; empty at the top
	node   *yaml.Node
	values map[string]*yaml.Node
	broken bool // not a mapping, or one with keys that were not read: what is missing is no news
}

// newSection reads n as a mapping with no keys but these. A mistake in one key hides no other.
func (r *report) newSection(n *yaml.Node, path string, keys ...string) *section {
	s := &section{report: r, path: path, node: n, values: map[string]*yaml.Node{}}
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		r.fail(s.node, path, "must be a mapping of keys to values, not %s; its keys are %s", kindOf(n), strings.Join(keys, ", "))
		s.broken = true
		return s
	}
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		key := k.Value
		switch {
		case k.Kind != yaml.ScalarNode || !slices.Contains(keys, key):
			r.unknownKey(k, path, keys)
			s.broken = true
		case first[key] != 0:
			r.fail(k, s.key(key), "is already given in line %d; remove one of them", first[key])
		case isNull(v):
			r.fail(k, s.key(key), "has no value; give it one, or remove the key")
			s.broken = true
		default:
			s.values[key] = v
		}
		if first[key] == 0 {
			first[key] = k.Line
		}
	}
	return s
}

func (r *report) unknownKey(k *yaml.Node, path string, keys []string) {
	switch near := nearest(k.Value, keys); {
	case k.Kind != yaml.ScalarNode || k.Tag == "!!merge":
		r.fail(k, path, "only plain keys may stand here; write one of %s", strings.Join(keys, ", "))
	case near != "":
		r.fail(k, path, "unknown key %q; did you mean %s?", k.Value, near)
	default:
		r.fail(k, path, "unknown key %q; known here are %s", k.Value, strings.Join(keys, ", "))
	}
}

func (s *section) key(name string) string {
	if s.path == "" {
		return name
	}
	return s.path + "." + name
}

// has reports whether the key is given, correct or not.
func (s *section) has(name string) bool { return s.values[name] != nil }

// lacks reports whether the key was left out, as against not read.
func (s *section) lacks(name string) bool { return s.values[name] == nil && !s.broken }

// at is where to point for a key: its value, or the section when it is absent.
func (s *section) at(name string) *yaml.Node {
	if n := s.values[name]; n != nil {
		return n
	}
	return s.node
}

// failKey reports a mistake in the value of a key.
func (s *section) failKey(name, format string, args ...any) {
	s.fail(s.at(name), s.key(name), format, args...)
}

// sub is the section under a key, empty when it is absent.
func (s *section) sub(name string, keys ...string) *section {
	n := s.values[name]
	if n == nil {
		return &section{report: s.report, path: s.key(name), node: s.node, values: map[string]*yaml.Node{}}
	}
	return s.newSection(n, s.key(name), keys...)
}

// item is one element of a list and its path.
type item struct {
	node *yaml.Node
	path string
}

// list is the elements under a key, nil when it is absent. None at all is a mistake.
func (s *section) list(name, empty string) []item {
	n := s.values[name]
	if n == nil {
		return nil
	}
	l := resolve(n)
	if l.Kind != yaml.SequenceNode {
		s.failKey(name, "must be a list, not %s; put it in brackets", kindOf(l))
		return nil
	}
	if len(l.Content) == 0 {
		s.failKey(name, "is an empty list; %s", empty)
	}
	items := make([]item, len(l.Content))
	for i, c := range l.Content {
		items[i] = item{c, fmt.Sprintf("%s[%d]", s.key(name), i)}
	}
	return items
}

// texts is list for elements of text; an element that is none is reported and left out.
func (s *section) texts(name, empty string, f func(it item, text string)) {
	for _, it := range s.list(name, empty) {
		if text, ok := s.textOf(it.node, it.path); ok {
			f(it, text)
		}
	}
}

// textOf is a node's text. No message repeats it: it may be a secret.
func (r *report) textOf(n *yaml.Node, path string) (string, bool) {
	v := resolve(n)
	switch {
	case v.Kind != yaml.ScalarNode:
		r.fail(n, path, "must be text, not %s; put it in quotes if it is meant as text", kindOf(v))
	case v.ShortTag() != "!!str":
		r.fail(n, path, "must be text, not %s; put it in quotes", kindOf(v))
	case v.Value == "":
		r.fail(n, path, "is empty; give it a value, or remove it")
	default:
		return v.Value, true
	}
	return "", false
}

// text reads a key, and reports whether it did.
func (s *section) text(name string, to *string) bool {
	if !s.has(name) {
		return false
	}
	text, ok := s.textOf(s.values[name], s.key(name))
	if ok {
		*to = text
	}
	return ok
}

func (s *section) boolean(name string, to *bool) {
	n := s.values[name]
	if n == nil {
		return
	}
	if v := resolve(n); v.Kind != yaml.ScalarNode || v.ShortTag() != "!!bool" || v.Decode(to) != nil {
		s.failKey(name, "must be true or false, not %s", kindOf(v))
	}
}

// integer reads a number within bounds, inclusive.
func (s *section) integer(name string, to *int, least, most int) {
	n := s.values[name]
	if n == nil {
		return
	}
	if i, ok := s.integerOf(n, s.key(name)); ok {
		if i < least || i > most {
			s.failKey(name, "%d is out of range; write a number from %d to %d", i, least, most)
			return
		}
		*to = i
	}
}

func (r *report) integerOf(n *yaml.Node, path string) (i int, ok bool) {
	v := resolve(n)
	if v.Kind != yaml.ScalarNode || v.ShortTag() != "!!int" {
		r.fail(n, path, "must be a whole number, not %s", kindOf(v))
		return 0, false
	}
	if v.Decode(&i) != nil {
		r.fail(n, path, "has more digits than any number here; write a smaller one")
		return 0, false
	}
	return i, true
}

const maxPort = 65535

func (s *section) port(name string, to *uint16) {
	port := int(*to)
	s.integer(name, &port, 1, maxPort)
	*to = uint16(port) // within bounds
}

// duration reads a time with a unit within bounds, inclusive.
func (s *section) duration(name string, to *time.Duration, least, most time.Duration) {
	n := s.values[name]
	if n == nil {
		return
	}
	v := resolve(n)
	if v.Kind != yaml.ScalarNode {
		s.failKey(name, "must be a time such as %v, not %s", *to, kindOf(v))
		return
	}
	d, err := time.ParseDuration(v.Value)
	switch {
	case v.ShortTag() == "!!int" && err != nil:
		s.failKey(name, "%s: a unit is missing; write %ss for seconds", v.Value, v.Value)
	case err != nil:
		s.failKey(name, "%q is not a time; write it as %v or 1m30s", v.Value, *to)
	case d < least || d > most:
		s.failKey(name, "%v is out of range; write a time from %v to %v", d, least, most)
	default:
		*to = d
	}
}

// resolve follows a reference to an anchor.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool {
	n = resolve(n)
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

func isEmptyText(n *yaml.Node) bool {
	n = resolve(n)
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str" && n.Value == ""
}

// kindOf names what a node is, for somebody who expected something else there.
func kindOf(n *yaml.Node) string {
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
