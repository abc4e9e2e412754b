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

// SecretSize is the size of a new secret in bytes: the block that HMAC-SHA256 gets the most out of, twice
// the least that is allowed.
const SecretSize = 32

const maxFile = 64 << 10 // bytes of a client's file

// NewSecret makes a secret.
func NewSecret() (protocol.Secret, error) {
	s := make(protocol.Secret, SecretSize)
	if _, err := rand.Read(s); err != nil {
		return nil, fmt.Errorf("make a secret: %w", err)
	}
	return s, nil
}

// A Change is one that was made to the files of a configuration and can be taken back.
type Change struct {
	Config *config.Config // with the change
	File   string         // the client's
	undo   func() error
}

// Undo makes the files as they were.
func (c *Change) Undo() error { return c.undo() }

// ErrNoClientsDir says that a configuration has no place for clients of their own.
var ErrNoClientsDir = errors.New("the configuration has no directory for clients; " +
	"add the key clients_dir to it, as in clients_dir: clients.d")

// NewClient is a client that is to be made.
type NewClient struct {
	ID       string
	Secret   protocol.Secret
	Services []string // names; none: all
	Profile    ProfileOptions    // of the profile, which are kept for the next one
}

// Add writes a new client's file into the clients_dir of the configuration at path. The configuration is
// read again with it; if that fails there is no change.
func Add(path string, who NewClient) (*Change, error) {
	id, secret, services := who.ID, who.Secret, who.Services
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
		return nil, fmt.Errorf("there is a client %q already, at %s; choose another id, or give it a new secret with knockgw client rotate", id, place)
	}
	for _, name := range services {
		if err := checkService(c, name); err != nil {
			return nil, err
		}
	}
	text, err := yaml.Marshal(struct { //nolint:gosec // the file is for the secret
		ID       string   `yaml:"id"`
		Secret   string   `yaml:"secret"`
		Services []string `yaml:"services,omitempty,flow"`
		Profile  ProfileOptions    `yaml:"profile,omitempty,flow"`
	}{id, secret.Reveal(), services, who.Profile})
	if err != nil {
		return nil, fmt.Errorf("client %q: %w", id, err)
	}
	if err := privatefile.MakeDirectory(c.ClientsDir); err != nil {
		return nil, fmt.Errorf("make the directory of clients: %w", err)
	}
	file := filepath.Join(c.ClientsDir, fileName(id))
	if err := privatefile.Write(file, text, false); err != nil {
		return nil, fmt.Errorf("write the client's file: %w", err)
	}
	return verify(path, &Change{File: file, undo: func() error { return privatefile.Remove(file) }})
}

// checkService is nil if there is a service of that name.
func checkService(c *config.Config, name string) error {
	names := make([]string, len(c.Services))
	for i := range c.Services {
		if names[i] = c.Services[i].Name; names[i] == name {
			return nil
		}
	}
	return fmt.Errorf("there is no service %q; there is %s", name, strings.Join(names, ", "))
}

// verify reads the configuration with a change, and takes it back if it is refused.
func verify(path string, change *Change) (*Change, error) {
	c, err := config.Load(path)
	if err != nil {
		return nil, errors.Join(err, change.Undo())
	}
	change.Config = c
	return change, nil
}

// clientFile is the file in clients_dir that a client stands in.
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
		return nil, "", fmt.Errorf("client %q stands in the configuration itself, at %s; change it there, "+
			"or move it to a file in %s", id, place, orClientsDir(c.ClientsDir))
	}
	return c, place.File, nil
}

func orClientsDir(dir string) string {
	if dir == "" {
		return "a directory that the key clients_dir names"
	}
	return dir
}

// Remove deletes a client's file, also one that has mistakes in it. A client that stands in the configuration
// itself is refused.
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

// invalidFile is the file of a client that has no place in the configuration because of mistakes in that file; ""
// if they are not there, or not there alone.
func invalidFile(err error, id string) string {
	file := ""
	for _, err := range errlist.Errors(err) {
		var mistake *config.Error
		if !errors.As(err, &mistake) || filepath.Base(mistake.File) != fileName(id) || file != "" && file != mistake.File {
			return ""
		}
		file = mistake.File
	}
	return file
}

// maxEncodedID is how many bytes of a file's name are left to an id: file systems take 255.
const maxEncodedID = 128

// fileName is where a client stands: its id, with % and two digits for each byte that is no letter, digit,
// '.', '_' or '-' of ASCII, or that a name should not begin with. No two ids have the same.
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
