package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"sort"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Read returns the one document of the file as nodes, which know their lines, or nil: then it is no YAML,
// and the report says why.
func (r *Report) Read(data []byte) *yaml.Node {
	var doc, second yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	err := decode(dec, &doc)
	if errors.Is(err, io.EOF) || err == nil && len(doc.Content) != 1 {
		r.add(&Error{File: r.file, Line: 1, Msg: "the file is empty; start with the example in the documentation"})
		return nil
	}
	if err != nil {
		r.add(syntaxError(r.file, data, err))
		return nil
	}
	switch err := decode(dec, &second); {
	case err == nil:
		r.add(&Error{File: r.file, Line: second.Line, Msg: "a second document begins; write everything into one, without ---"})
		return nil
	case !errors.Is(err, io.EOF):
		r.add(syntaxError(r.file, data, err))
		return nil
	}
	return doc.Content[0]
}

// decode is dec.Decode, whose parser panics on some comments that it did not foresee.
func decode(dec *yaml.Decoder, n *yaml.Node) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("yaml: the parser gave up: %v", r)
		}
	}()
	return dec.Decode(n)
}

// syntaxError puts the parser's complaint into one line, and says what to write where our own syntax
// invites the mistake. The parser itself names the line where the enclosing block began, or none.
func syntaxError(name string, data []byte, err error) *Error {
	bracket := regexp.MustCompile(`^[\s-]*[a-z_]+:\s*(\[[^\]"']*\]:\d+)\s*(#.*)?$`)
	original := regexp.MustCompile(`^[\s-]*upstream:\s*original:\s*(#.*)?$`)
	position := regexp.MustCompile(`^yaml: (line \d+: )?`)

	lines := bytes.SplitAfter(data, []byte("\n"))
	i := locate(lines, len(data))
	e := &Error{File: name, Line: i + 1}
	line := bytes.TrimRight(lines[i], "\r\n")
	switch m := bracket.FindSubmatch(line); {
	case m != nil:
		e.Msg = fmt.Sprintf("brackets begin a list in YAML; write %q in quotes", m[1])
	case original.Match(line):
		e.Msg = `a colon at the end begins a mapping in YAML; write "original:" in quotes`
	case strings.Contains(err.Error(), "unknown anchor"):
		// The text may be a secret, and is in the parser's message: neither is repeated.
		e.Msg = "* begins a reference in YAML; put text that begins with it in quotes"
	default:
		msg := strings.ToValidUTF8(oneLine(position.ReplaceAllString(err.Error(), "")), "?")
		e.Msg = "not YAML: " + msg + "; check the indentation and the quotes of this line"
	}
	return e
}

// Up to these sizes locate tries every end, in at most some tenths of a second.
const (
	maxScanLines = 1000
	maxScanBytes = 64 << 10
)

// locate is the index of the line with which a file that does not parse stops being the beginning of
// one that does: behind the longest such beginning. In long files a shorter one will do.
func locate(lines [][]byte, size int) int {
	n := len(lines)
	parses := func(k int) bool {
		dec := yaml.NewDecoder(bytes.NewReader(bytes.Join(lines[:k], nil)))
		for {
			var doc yaml.Node
			if err := decode(dec, &doc); err != nil {
				return errors.Is(err, io.EOF)
			}
		}
	}
	if n > maxScanLines || size > maxScanBytes {
		return max(0, sort.Search(n, func(k int) bool { return !parses(k + 1) }))
	}
	for k := n - 1; k > 0; k-- {
		if parses(k) {
			return k
		}
	}
	return 0
}
