// Package migrate turns the file of libknock's command, knock-proxy, into ours:
// that of a server into a configuration, that of a client into a profile.
//
//	their file --> leaves of known keys --> server or client --> text --> config.Parse or profile.Parse
//	                 |                        |
//	                 '--> unknown keys        '--> what has no counterpart, was changed, or is to be done:
//	                                               Notes, each with the line that it is about
//
// No key is passed over in silence: each is made into something, or there is a
// note that says what it did and what takes its place. What was made is read
// back by the parser that will read it later before anybody gets it. Neither
// notes nor errors have a secret in them.
//
// The keys are those of knock-proxy's documentation; keys.go has all of them.
package migrate

import (
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/knockgw/knockgw/internal/strictyaml"
)

// Error is one mistake in their file, with its line. Several are joined.
type Error = strictyaml.Error

// maxFile is the size of a file in bytes: some thousand clients. More is the
// wrong file.
const maxFile = 1 << 20

// Options are what a file does not say.
type Options struct {
	// Listen is the protected address of a server, which is routed to the
	// gateway's device; with port 0 the port is that of the file. If it is not
	// valid, the address is the one that the file names, which must then be a
	// single one.
	Listen netip.AddrPort
	// Service is the service's name; "" means one that the port suggests.
	Service string
	// TextOnly leaves secrets out, for a result that is shown and not kept: the
	// configuration refers to files that are still to be made, and the profile
	// has a gap. The notes say where each secret is.
	TextOnly bool
}

// A Result is what became of a file.
type Result struct {
	Server bool   // it is a configuration; otherwise a profile
	Files  []File // the configuration or the profile first, then files with secrets
	Notes  []Note // by line

	use string // the command that does what the client did
}

// Next are the commands to go on with, where the files are in dir.
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

// A File is one to be written, with mode 0600.
type File struct {
	Name string // without a directory
	Data []byte
}

// A Note says what became of a key, or what is to be done.
type Note struct {
	File    string
	Line    int    // 0: about the file as a whole
	Key     string // as knock.retry; "" with line 0
	Text    string
	Warning bool // something that was safe, or worked, is so no longer
}

// String is file:line: key: text, as an Error's.
func (n Note) String() string {
	text := n.Text
	if n.Warning {
		text = "warning: " + text
	}
	e := Error{File: n.File, Line: n.Line, Key: n.Key, Msg: text}
	return e.Error()
}

// formats is what has to be known of every migration.
const formats = "knockgw speaks the formats of today's libknock (UDP knock v1, tcp-auth-frame-v1, tcp-auth-envelope-v2, SYN knocks); " +
	"a knock-proxy whose knocks and frames are JSON cannot talk to it, so update the other side before you switch"

// Convert turns the content of a file into ours. Its name is for messages, and
// its directory is what the relative paths in it start from. The error is
// *Errors, all mistakes joined.
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

// conversion is one file on its way.
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

// sanitize is text that can be a file's name and a service's: what cannot be in
// one is left out.
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

// maxName is the most bytes of a name, as in config and profile.
const maxName = 64
