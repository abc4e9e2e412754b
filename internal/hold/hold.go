// Package hold records which addresses stay silent after a boot, before a
// gateway starts: the blackholes and rules of the last successful start, in a
// file that only root can write. An early unit installs them before the network
// is up (knockgw hold), stops and crashes of the service do the same, and
// `knockgw down` removes them.
//
// The file is not in the directory of the gateway's account: an attacker in a
// gateway could otherwise make the next boot drop packets of any address, or of
// none. For the same reason it is a copy of the kernel's tables, not of the
// configuration, and is written by root.
package hold

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/knockgw/knockgw/internal/privatefile"
	"github.com/knockgw/knockgw/internal/routing"
)

// DefaultPath is the default path of the file.
const DefaultPath = "/var/lib/knockgw-hold/state.json"

const (
	// format is the version of the file.
	format = 1
	// maxDeviceName is the longest name of an interface in bytes (IFNAMSIZ).
	maxDeviceName = 15
	// maxSize is the largest size of the file in bytes: some ten thousand
	// prefixes.
	maxSize = 1 << 20
	// directoryMode is the mode of the file's directory, which only root needs.
	directoryMode = 0o700
)

// ErrInvalid means that the file was not written by this package, or that an
// account other than root could have changed it.
var ErrInvalid = errors.New("not a valid state of knockgw hold")

// state is the content of the file.
type state struct {
	Version int `json:"version"`
	routing.ProtectedSet
}

// Read reads the file. Errors: fs.ErrNotExist, ErrInvalid, or those of the
// system.
func Read(path string) (routing.ProtectedSet, error) {
	for _, name := range []string{filepath.Dir(path), path} {
		info, err := os.Lstat(name)
		if err != nil {
			return routing.ProtectedSet{}, err
		}
		if err := trusted(name, info); err != nil {
			return routing.ProtectedSet{}, err
		}
	}
	data, err := privatefile.Read(path, maxSize)
	if err != nil {
		return routing.ProtectedSet{}, err
	}
	h, err := decode(data)
	if err != nil {
		return routing.ProtectedSet{}, fmt.Errorf("%s: %w: %w", path, ErrInvalid, err)
	}
	return h, nil
}

// decode parses the content of a file, without trailing data.
func decode(data []byte) (routing.ProtectedSet, error) {
	var s state
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return routing.ProtectedSet{}, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return routing.ProtectedSet{}, errors.New("trailing data")
	}
	if s.Version != format {
		return routing.ProtectedSet{}, fmt.Errorf("unknown version %d", s.Version)
	}
	return s.ProtectedSet, check(s.ProtectedSet)
}

// check rejects what no configuration can cause.
func check(h routing.ProtectedSet) error {
	for _, p := range h.Prefixes {
		if !p.IsValid() || p.Bits() == 0 || p != p.Masked() || !routable(p.Addr()) {
			return fmt.Errorf("prefix %s", p)
		}
	}
	for _, l := range h.UpstreamLinks {
		if !slices.Contains(h.Prefixes, l.Prefix) || l.Device == "" || len(l.Device) > maxDeviceName || strings.ContainsAny(l.Device, "/ \x00") {
			return fmt.Errorf("upstream link %q of %s", l.Device, l.Prefix)
		}
	}
	for _, p := range slices.Concat(h.Ports, h.UDP) {
		if !p.IsValid() || p.Port() == 0 || !routable(p.Addr()) {
			return fmt.Errorf("port %s", p)
		}
	}
	return nil
}

// routable reports whether a configuration can protect an address.
func routable(a netip.Addr) bool {
	return a.Zone() == "" && !a.Is4In6() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast()
}

// Write replaces the file, and creates its directory. For an empty set it
// removes the file.
func Write(path string, h routing.ProtectedSet) error {
	if h.IsEmpty() {
		return Remove(path)
	}
	if err := check(h); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	data, err := json.Marshal(state{format, h})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), directoryMode); err != nil {
		return err
	}
	return privatefile.Write(path, append(data, '\n'), true)
}

// Forget removes the elements of h from the file, if it exists.
func Forget(path string, h routing.ProtectedSet) error {
	have, err := Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return Write(path, have.Subtract(h))
}

// Remove deletes the file, if it exists.
func Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
