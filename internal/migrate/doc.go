// Package migrate converts files of knock-proxy, libknock's command, to ours:
// the file of a server to a configuration, that of a client to a profile.
//
//	input --> leaves with known keys --> server or client --> text --> config.Parse or profile.Parse
//	            |                          |
//	            '--> unknown keys          '--> Notes, each with its line: keys that have no
//	                                            counterpart, were changed, or need an action
//
// No key is ignored silently: each is converted, or a note says what it did and
// what replaces it. The result is parsed by the same parser that will read it
// later before it is returned. Neither notes nor errors contain secrets.
//
// The keys are those of knock-proxy's documentation, listed in keys.go.
package migrate

import (
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/knockgw/knockgw/internal/strictyaml"
)

// Error is one error in the input, with its line. Several are joined.
type Error = strictyaml.Error

// maxFile is the size of a file in bytes: some thousand clients. A larger file
// is the wrong one.
const maxFile = 1 << 20

// Options supplement the file.
type Options struct {
	// Listen is the protected address of a server, which is routed to the
	// gateway's device; with port 0, the port is that of the file. If it is not
	// valid, the address is that of the file, which must be a single one.
	Listen netip.AddrPort
	// Service is the service's name; "" means one that is derived from the port.
	Service string
	// TextOnly omits secrets, for a result that is only printed: the
	// configuration refers to files that do not exist yet, and the profile has
	// a placeholder. The notes say where each secret is.
	TextOnly bool
}

// Result is the result of a conversion.
type Result struct {
	Server bool   // a configuration; else a profile
	Files  []File // the configuration or profile, followed by files with secrets
	Notes  []Note // by line

	use string // the command that replaces the client
}

// Next returns the commands to continue with, if the files are in dir.
func (r *Result) Next(dir string) []string {
	if len(r.Files) == 0 {
		return nil
	}
	file := filepath.Join(dir, r.Files[0].Name)
	if r.Server {
		return []string{"knockgw check --config " + file}
	}
	return []string{"knockgw import " + file, r.use}
}

// File is a file of a Result, to be written with mode 0600.
type File struct {
	Name string // without a directory
	Data []byte
}

// Note says how a key was converted, or what to do.
type Note struct {
	File    string
	Line    int    // 0: about the file as a whole
	Key     string // such as knock.retry; "" if Line is 0
	Text    string
	Warning bool // something that was safe or worked no longer is or does
}

// String returns file:line: key: text, in the format of an Error.
func (n Note) String() string {
	text := n.Text
	if n.Warning {
		text = "warning: " + text
	}
	e := Error{File: n.File, Line: n.Line, Key: n.Key, Msg: text}
	return e.Error()
}

// formats is the note for every migration.
const formats = "knockgw speaks the formats of today's libknock (UDP knock v1, tcp-auth-frame-v1, tcp-auth-envelope-v2, SYN knocks); " +
	"a knock-proxy whose knocks and frames are JSON is not compatible, so update the other side before you switch"

// Convert converts the content of a file. name is used in messages, and its
// directory is the base of relative paths. The error joins all errors of the
// file, each of type *[Error].
func Convert(name string, data []byte, o Options) (*Result, error) {
	r := strictyaml.NewReport(name)
	if len(data) > maxFile {
		r.FailFile(nil, "has more than %d bytes; is it the right file?", maxFile)
		return nil, r.Err()
	}
	c := &conversion{source: newSource(r, filepath.Dir(name)), options: o}
	if root := r.Read(data); root != nil {
		c.read(root)
	}
	if r.Failures() == 0 {
		c.convert()
	}
	if err := r.Err(); err != nil {
		return nil, err
	}
	c.result.Notes = c.allNotes()
	return &c.result, nil
}

// conversion converts one file.
type conversion struct {
	*source
	options Options
	result  Result
}

func (c *conversion) convert() {
	mode, _ := c.text("mode")
	switch mode {
	case "server":
		c.result.Server = true
		c.convertServer()
	case "client":
		c.convertClient()
	case "":
		c.fail("mode", "is missing; write client or server")
	default:
		c.fail("mode", "%q is not known; write client or server", mode)
	}
	c.noteFile("%s", formats)
}

// sanitize removes the characters from text that cannot be in the names of
// files and services.
func sanitize(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '-', r == '_', r == '.':
			b.WriteRune(r)
		}
	}
	name := strings.TrimLeft(b.String(), "-_.")
	if len(name) > maxName {
		return ""
	}
	return name
}

// maxName limits a name, in bytes, as in config and profile.
const maxName = 64
