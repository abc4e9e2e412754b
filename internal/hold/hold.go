// Package hold records across boots what stays silent without a gateway: the
// blackholes and rules of the last start that succeeded, in a file that root alone
// can write. An early unit installs them before the network is up (knockgw hold), a
// stop and a crash of the service do the same, and `knockgw down` forgets them.
//
// The file is not in the directory of the gateway's account: what gets into a gateway
// could then have the next boot black-hole whatever it likes, or nothing. For the same
// reason it is a copy of what the kernel has, not of the configuration, and is written
// by root, not by the gateway.
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

// DefaultPath is where the file is.
const DefaultPath = "/var/lib/knockgw-hold/state.json"

const (
	// format is the version of the file.
	format = 1
	// maxDevice is the longest name of an interface that the kernel takes.
	maxDevice = 15
	// maxSize bounds the file in bytes: some ten thousand prefixes.
	maxSize = 1 << 20
	// directoryMode is that of the file's directory, which root alone needs.
	directoryMode = 0o700
)

// ErrInvalid says that the file is not one that this package wrote, or that others
// than root could have changed it.
var ErrInvalid = errors.New("not a valid state of knockgw hold")

// state is what is in the file.
type state struct {
	Version int `json:"version"`
	routing.ProtectedSet
}

// Read returns what the file has. Errors: fs.ErrNotExist, ErrInvalid, or the system's.
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

// decode reads what is in a file, and nothing else.
func decode(data []byte) (routing.ProtectedSet, error) {
	var s state
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return routing.ProtectedSet{}, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return routing.ProtectedSet{}, errors.New("there is more behind it")
	}
	if s.Version != format {
		return routing.ProtectedSet{}, fmt.Errorf("version %d is not known here", s.Version)
	}
	return s.ProtectedSet, check(s.ProtectedSet)
}

// check refuses what no configuration can bring about.
func check(h routing.ProtectedSet) error {
	for _, p := range h.Prefixes {
		if !p.IsValid() || p.Bits() == 0 || p != p.Masked() || !routable(p.Addr()) {
			return fmt.Errorf("prefix %s", p)
		}
	}
	for _, in := range h.UpstreamLinks {
		if !slices.Contains(h.Prefixes, in.Prefix) || in.Device == "" || len(in.Device) > maxDevice || strings.ContainsAny(in.Device, "/ \x00") {
			return fmt.Errorf("inside %s of %s", in.Device, in.Prefix)
		}
	}
	for _, p := range slices.Concat(h.Ports, h.UDP) {
		if !p.IsValid() || p.Port() == 0 || !routable(p.Addr()) {
			return fmt.Errorf("port %s", p)
		}
	}
	for _, in := range h.UpstreamLinks {
		if !slices.Contains(h.Prefixes, in.Prefix) || in.Device == "" || len(in.Device) > maxDeviceName {
			return fmt.Errorf("inside %s of %q", in.Prefix, in.Device)
		}
	}
	return nil
}

// maxDeviceName is how long the name of an interface may be in bytes (IFNAMSIZ).
const maxDeviceName = 15

// routable reports whether an address can be one that is protected: as in a
// configuration.
func routable(a netip.Addr) bool {
	return a.Zone() == "" && !a.Is4In6() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast()
}

// Write replaces the file, and its directory where there is none. With nothing to
// hold, there is no file.
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

// Forget takes h out of the file, if there is one.
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

// Remove deletes the file, if there is one.
func Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
