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

// ClientSuffix is the suffix of the client files in ClientsDir. Other files are
// ignored.
const ClientSuffix = ".yaml"

// parseClientsDir reads the files of clients_dir, sorted by name, each with one
// client.
func (p *parser) parseClientsDir(s *strictyaml.Section) {
	entries, err := os.ReadDir(p.c.ClientsDir)
	if errors.Is(err, fs.ErrNotExist) {
		s.Warn(s.At("clients_dir"), s.Key("clients_dir"), "the directory %s does not exist yet; knockgw client add makes it, "+
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

// parseClientFile reads a client file. It may contain a secret, so only its
// owner may be able to read it.
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

// LoadLenient reads the file at path like [Load], but skips client files of its
// clients_dir that have errors. It returns their errors together with the
// Config. If there are errors elsewhere, the Config is nil.
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
