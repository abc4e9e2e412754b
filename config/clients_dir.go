package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/knockgw/knockgw/internal/errlist"
	"github.com/knockgw/knockgw/internal/privatefile"
	"github.com/knockgw/knockgw/internal/strictyaml"
)

// ClientSuffix is how the name of a client's file in ClientsDir ends; other files there are none.
const ClientSuffix = ".yaml"

// parseClientsDir reads the files of clients_dir, one client in each, in the order of their names.
func (p *parser) parseClientsDir(s *strictyaml.Section) {
	entries, err := os.ReadDir(p.c.ClientsDir)
	if errors.Is(err, fs.ErrNotExist) {
		s.Warn(s.At("clients_dir"), s.Key("clients_dir"), "there is no directory %s yet; knockgw client add makes it, "+
			"or correct the path", p.c.ClientsDir)
		return
	}
	if err != nil {
		s.FailKey("clients_dir", "%v; name a directory that knockgw can read", err)
		return
	}
	files := 0
	for _, e := range entries {
		if e.IsDir() || filepath.Ext(e.Name()) != ClientSuffix || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if files++; files > maxClientFiles {
			s.FailKey("clients_dir", "has more than %d files; put some of the clients in the configuration itself", maxClientFiles)
			return
		}
		if file := filepath.Join(p.c.ClientsDir, e.Name()); !p.options.skipFiles[file] {
			p.parseClientFile(file)
		}
	}
}

// parseClientFile reads one of them. There may be a secret in it, so others must not be able to read it.
func (p *parser) parseClientFile(path string) {
	r := p.InFile(path)
	data, err := privatefile.Read(path, maxClientFile)
	if open := (*privatefile.AccessError)(nil); errors.As(err, &open) {
		r.FailFile(err, "%s", open.Remedy())
		return
	}
	if err != nil {
		r.FailFile(err, "cannot be read: %v", err)
		return
	}
	if root := r.Read(data); root != nil {
		p.parseClient(clientFile{r, filepath.Dir(path)}, 0, strictyaml.Item{Node: root})
	}
}

// LoadLenient reads the file at path as Load does, and leaves out the files of its clients_dir in which something is
// wrong. The error says what that is, nil if nothing; no Config comes with it where the mistake is elsewhere.
func LoadLenient(path string, opts ...Option) (*Config, error) {
	c, err := Load(path, opts...)
	if err == nil {
		return c, nil
	}
	bad := make(map[string]bool)
	for _, e := range errlist.Errors(err) {
		var at *Error
		if !errors.As(e, &at) || at.File == path {
			return nil, err
		}
		bad[at.File] = true
	}
	c, elsewhere := Load(path, append(opts, func(o *options) { o.skipFiles = bad })...)
	if elsewhere != nil {
		return nil, err
	}
	return c, err
}
