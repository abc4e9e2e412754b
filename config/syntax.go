package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// readYAML returns the one document of a file as nodes, which know their lines.
func readYAML(name string, data []byte) (*yaml.Node, error) {
	var doc, second yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	err := decode(dec, &doc)
	if errors.Is(err, io.EOF) || err == nil && len(doc.Content) != 1 {
		return nil, &Error{File: name, Line: 1, Msg: "the file is empty; start with the example in the documentation"}
	}
	if err != nil {
		return nil, syntaxError(name, data, err)
	}
	switch err := decode(dec, &second); {
	case err == nil:
		return nil, &Error{File: name, Line: second.Line, Msg: "a second document begins; write everything into one, without ---"}
	case !errors.Is(err, io.EOF):
		return nil, syntaxError(name, data, err)
	}
	return doc.Content[0], nil
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

// syntaxError puts the parser's complaint into one line. The parser names the line where the enclosing
// block began, or none; the mistakes that our own syntax invites are looked for, and named exactly.
func syntaxError(name string, data []byte, err error) *Error {
	bracket := regexp.MustCompile(`^[\s-]*[a-z_]+:\s*(\[[^\]"']*\]:\d+)\s*(#.*)?$`)
	original := regexp.MustCompile(`^[\s-]*upstream:\s*original:\s*(#.*)?$`)
	anchor := regexp.MustCompile(`^yaml: unknown anchor '(.*)' referenced$`)
	unknown := anchor.FindStringSubmatch(err.Error())
	for i, line := range strings.Split(string(data), "\n") {
		e := &Error{File: name, Line: i + 1, Err: err}
		if m := bracket.FindStringSubmatch(strings.TrimSuffix(line, "\r")); m != nil {
			e.Msg = fmt.Sprintf("brackets begin a list in YAML; write %q in quotes", m[1])
			return e
		}
		if original.MatchString(line) {
			e.Msg = `a colon at the end begins a mapping in YAML; write "original:" in quotes`
			return e
		}
		if unknown != nil && strings.Contains(line, "*"+unknown[1]) {
			// The text may be a secret, and so may the parser's message: neither is repeated.
			e.Msg, e.Err = "* begins a reference in YAML; put text that begins with it in quotes", nil
			return e
		}
	}
	line, msg := splitYAMLError(err)
	if unknown != nil {
		line, msg, err = 1, "* begins a reference in YAML; put text that begins with it in quotes", nil
	}
	return &Error{File: name, Line: line, Msg: msg, Err: err}
}

// splitYAMLError reads "yaml: line N: message". Without a number it was the first line. Complaints of
// the parser, as against the scanner's, count lines from 0.
func splitYAMLError(err error) (line int, msg string) {
	msg = strings.TrimPrefix(err.Error(), "yaml: ")
	line = 1
	if rest, ok := strings.CutPrefix(msg, "line "); ok {
		if number, rest, ok := strings.Cut(rest, ": "); ok {
			if n, err := strconv.Atoi(number); err == nil {
				line, msg = n, rest
				parser := regexp.MustCompile(`^did not find expected (key|'|node|<)`)
				if parser.MatchString(msg) {
					line++
				}
			}
		}
	}
	msg = strings.ToValidUTF8(oneLine(msg), "?")
	return line, "not YAML: " + msg + "; check the indentation and the quotes near this line"
}
