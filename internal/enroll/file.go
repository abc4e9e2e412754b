package enroll

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/errlist"
	"github.com/knockgw/knockgw/internal/privatefile"
	"github.com/knockgw/knockgw/protocol"
)

// SecretSize is the size of a new secret in bytes: the output size of SHA-256,
// beyond which HMAC-SHA256 gains nothing, and twice the required minimum.
const SecretSize = 32

const maxFile = 64 << 10 // of a client's file, in bytes

// NewSecret generates a secret.
func NewSecret() (protocol.Secret, error) {
	s := make(protocol.Secret, SecretSize)
	if _, err := rand.Read(s); err != nil {
		return nil, fmt.Errorf("generate a secret: %w", err)
	}
	return s, nil
}

// A Change is a change of a configuration's files that can be undone.
type Change struct {
	Config *config.Config // with the change
	File   string         // of the client
	undo   func() error
}

// Undo restores the files.
func (c *Change) Undo() error { return c.undo() }

// ErrNoClientsDir reports that a configuration has no directory of clients.
var ErrNoClientsDir = errors.New("the configuration has no directory for clients; " +
	"add the key clients_dir to it, for example clients_dir: clients.d")

// NewClient describes a client to be added.
type NewClient struct {
	ID       string
	Secret   protocol.Secret
	Services []string       // names; none means all
	Profile  ProfileOptions // kept for the next profile
}

// Add writes a new client's file to the clients_dir of the configuration at
// path, and loads the configuration with it. If that fails, nothing is changed.
func Add(path string, n NewClient) (*Change, error) {
	id, secret, services := n.ID, n.Secret, n.Services
	if _, err := protocol.NewClient(id, secret); err != nil {
		return nil, fmt.Errorf("client %q: %w", id, err)
	}
	c, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	if c.ClientsDir == "" {
		return nil, ErrNoClientsDir
	}
	if place, ok := c.Position(id); ok {
		return nil, fmt.Errorf("there is already a client %q, at %s; "+
			"choose another id, or give it a new secret with knockgw client rotate", id, place)
	}
	for _, name := range services {
		if err := checkService(c, name); err != nil {
			return nil, err
		}
	}

	text, err := yaml.Marshal(struct { //nolint:gosec // the file contains the secret
		ID       string         `yaml:"id"`
		Secret   string         `yaml:"secret"`
		Services []string       `yaml:"services,omitempty,flow"`
		Profile  ProfileOptions `yaml:"profile,omitempty,flow"`
	}{id, secret.Reveal(), services, n.Profile})
	if err != nil {
		return nil, fmt.Errorf("client %q: %w", id, err)
	}
	if err := privatefile.MakeDirectory(c.ClientsDir); err != nil {
		return nil, fmt.Errorf("create the directory of clients: %w", err)
	}

	file := filepath.Join(c.ClientsDir, fileName(id))
	if err := privatefile.Write(file, text, false); err != nil {
		return nil, fmt.Errorf("write the client's file: %w", err)
	}
	return verify(path, &Change{File: file, undo: func() error { return privatefile.Remove(file) }})
}

// checkService returns an error if there is no service of that name.
func checkService(c *config.Config, name string) error {
	names := make([]string, len(c.Services))
	for i := range c.Services {
		if names[i] = c.Services[i].Name; names[i] == name {
			return nil
		}
	}
	return fmt.Errorf("there is no service %q; there is %s", name, strings.Join(names, ", "))
}

// verify loads the configuration with a change, and undoes it if that fails.
func verify(path string, change *Change) (*Change, error) {
	c, err := config.Load(path)
	if err != nil {
		return nil, errors.Join(err, change.Undo())
	}
	change.Config = c
	return change, nil
}

// clientFile returns the file in clients_dir that contains a client.
func clientFile(path, id string) (*config.Config, string, error) {
	c, err := config.Load(path)
	if err != nil {
		return nil, "", err
	}
	place, ok := c.Position(id)
	if !ok {
		return nil, "", &NoClientError{ID: id}
	}
	if c.ClientsDir == "" || filepath.Dir(place.File) != c.ClientsDir {
		return nil, "", fmt.Errorf("client %q is in the configuration file, at %s; change it there, "+
			"or move it to a file in %s", id, place, orClientsDir(c.ClientsDir))
	}
	return c, place.File, nil
}

// orClientsDir returns the directory, or a description if there is none.
func orClientsDir(dir string) string {
	if dir == "" {
		return "the directory of the key clients_dir"
	}
	return dir
}

// Remove deletes a client's file, even if it is invalid. A client in the
// configuration file itself is an error.
func Remove(path, id string) (*Change, error) {
	_, file, err := clientFile(path, id)
	if err != nil {
		if file = invalidFile(err, id); file == "" {
			return nil, err
		}
	}
	text, err := privatefile.Read(file, maxFile)
	if err != nil {
		return nil, err
	}
	if err := privatefile.Remove(file); err != nil {
		return nil, fmt.Errorf("remove client %q: %w", id, err)
	}
	return verify(path, &Change{File: file, undo: func() error { return privatefile.Write(file, text, false) }})
}

// invalidFile returns the file of a client that could not be loaded because of
// errors in that file; "" if there are other errors.
func invalidFile(err error, id string) string {
	file := ""
	for _, err := range errlist.Errors(err) {
		var invalid *config.Error
		if !errors.As(err, &invalid) || filepath.Base(invalid.File) != fileName(id) || file != "" && file != invalid.File {
			return ""
		}
		file = invalid.File
	}
	return file
}

// maxEncodedID is the maximum length of the encoded id in a file name, in
// bytes: file systems allow 255 for the name.
const maxEncodedID = 128

// fileName returns the file name for an id: the id, with % and two hex digits
// for each byte other than ASCII letters, digits, '.', '_' and '-', and for a
// leading '.', '_' or '-'. File names are unique.
func fileName(id string) string {
	var b strings.Builder
	for i := range len(id) {
		c := id[i]
		alnum := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if alnum || i > 0 && strings.IndexByte("._-", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	name := b.String()
	if len(name) > maxEncodedID {
		sum := sha256.Sum256([]byte(id))
		name = name[:maxEncodedID] + "~" + hex.EncodeToString(sum[:16])
	}
	return name + config.ClientSuffix
}
