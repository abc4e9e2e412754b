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

// Read returns the document of the file as a node. If the file is not a single
// YAML document, it records an error and returns nil.
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
		r.add(&Error{File: r.file, Line: second.Line, Msg: "a second document starts here; write everything into one, without ---"})
		return nil
	case !errors.Is(err, io.EOF):
		r.add(syntaxError(r.file, data, err))
		return nil
	}
	return doc.Content[0]
}

// decode is dec.Decode, whose parser panics on some comments.
func decode(dec *yaml.Decoder, n *yaml.Node) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("yaml: the parser failed: %v", r)
		}
	}()
	return dec.Decode(n)
}

// syntaxError returns the parser's error on one line, with the line of the
// file, and says what to write in cases where the syntax of our values causes
// the error. The parser itself reports the line where the enclosing block
// starts, or none.
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
		e.Msg = fmt.Sprintf("brackets start a list in YAML; write %q in quotes", m[1])
	case original.Match(line):
		e.Msg = `a colon at the end starts a mapping in YAML; write "original:" in quotes`
	case strings.Contains(err.Error(), "unknown anchor"):
		// The text, which is in the parser's message, may be a secret.
		e.Msg = "* starts a reference in YAML; put text that starts with it in quotes"
	default:
		msg := strings.ToValidUTF8(oneLine(position.ReplaceAllString(err.Error(), "")), "?")
		e.Msg = "not YAML: " + msg + "; check the indentation and the quotes of this line"
	}
	return e
}

// Up to these sizes, locate tries every line, in at most some tenths of a
// second.
const (
	maxScanLines = 1000
	maxScanBytes = 64 << 10
)

// locate returns the index of the line with the syntax error: the line after
// the longest beginning of the file that parses. In long files, a binary search
// finds some line after a beginning that parses.
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
