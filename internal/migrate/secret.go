package migrate

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/knockgw/knockgw/internal/privatefile"
	"github.com/knockgw/knockgw/protocol"
)

// maxSecret limits the size of a secret file in bytes, as in a gateway.
const maxSecret = 64 << 10

// credential is a client's secret and its position.
type credential struct {
	secret protocol.Secret
	path   string // the key
	// file is the absolute path of the existing secret file, if it can be used;
	// "" if a file must be made.
	file string
}

// readSecret reads secret or secret_file of the section at path.
func (c *conversion) readSecret(path string) (credential, bool) {
	inline, inFile := path+".secret", path+".secret_file"
	text, isInline := c.text(inline)
	name, isFile := c.text(inFile)
	switch {
	case isInline && isFile:
		c.fail(inline, "secret_file is given too; remove one of them")
	case isInline:
		secret, err := protocol.ParseSecret(text)
		if err != nil {
			c.fail(inline, "%v", err)
			return credential{}, false
		}
		return credential{secret: secret, path: inline}, true
	case isFile:
		return c.readSecretFile(inFile, name)
	case !c.has(inline) && !c.has(inFile):
		c.fail(path+".secret", "is missing, and so is secret_file; a client needs a secret of at least %d bytes", protocol.MinSecret)
	default:
		c.fail(path+".secret", "is empty; write the secret")
	}
	return credential{}, false
}

// readSecretFile reads an existing secret file, and decides whether a gateway
// can use it.
func (c *conversion) readSecretFile(path, name string) (credential, bool) {
	if !filepath.IsAbs(name) {
		name = filepath.Join(c.dir, name)
	}
	abs, err := filepath.Abs(name)
	if err != nil {
		c.fail(path, "%v; write an absolute path", err)
		return credential{}, false
	}
	data, err := privatefile.Read(abs, maxSecret)
	var open *privatefile.AccessError
	if errors.As(err, &open) {
		data, err = readInsecure(abs)
	}
	if err != nil {
		c.fail(path, "%v; run knockgw migrate on the host with the file, as an account that can read it", err)
		return credential{}, false
	}

	text := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	secret, err := protocol.ParseSecret(strings.TrimSpace(text))
	if err != nil {
		c.fail(path, "%s: %v", abs, err)
		return credential{}, false
	}

	cred := credential{secret: secret, path: path, file: abs}
	padded := strings.TrimSpace(text) != text
	switch {
	case c.options.TextOnly && open != nil:
		c.warn(path, "%v: a gateway rejects it", open)
	case c.options.TextOnly && padded:
		c.warn(path, "there is white space around the secret in %s, which a gateway would treat as part of the secret; remove it", abs)
	case c.result.Server && open != nil:
		c.warn(path, "%s is open to accounts other than its owner (mode %04o), so a private copy was made; remove the original, and if others could log in, "+
			"give the client a new secret", abs, open.Mode)
		cred.file = ""
	case c.result.Server && padded:
		c.note(path, "there is white space around the secret in %s, so a copy without it was made", abs)
		cred.file = ""
	}
	return cred, true
}

// readInsecure reads a file that other accounts can read, too.
func readInsecure(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if len(data) > maxSecret {
		return nil, fmt.Errorf("%s has more than %d bytes; is it the right file?", path, maxSecret)
	}
	return data, nil
}

// keyFiles assigns file names to secrets, which are unique even on file systems
// that ignore case.
type keyFiles struct{ taken map[string]bool }

func (k *keyFiles) name(id string, i int) string {
	name := sanitize(id)
	if name != id || isReservedName(name) {
		name = fmt.Sprintf("client-%d", i+1)
	}
	for file := name + ".key"; ; file = fmt.Sprintf("%s-%d.key", name, len(k.taken)+1) {
		if key := strings.ToLower(file); !k.taken[key] {
			k.taken[key] = true
			return file
		}
	}
}

// isReservedName reports whether name is that of a device on Windows.
func isReservedName(name string) bool {
	if runtime.GOOS != "windows" {
		return false
	}
	return !filepath.IsLocal(name + ".key")
}
