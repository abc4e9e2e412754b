package hold_test

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/knockgw/knockgw/internal/hold"
	"github.com/knockgw/knockgw/internal/routing"
)

func sample() routing.ProtectedSet {
	return routing.ProtectedSet{
		Prefixes:      []netip.Prefix{netip.MustParsePrefix("10.77.0.0/24"), netip.MustParsePrefix("fd77::/64")},
		Ports:         []netip.AddrPort{netip.MustParseAddrPort("203.0.113.7:22"), netip.MustParseAddrPort("[2001:db8::7]:22")},
		UDP:           []netip.AddrPort{netip.MustParseAddrPort("203.0.113.7:62201")},
		UpstreamLinks: []routing.UpstreamLink{{Prefix: netip.MustParsePrefix("10.77.0.0/24"), Device: "eth1"}},
	}
}

func TestWriteRead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "made", "state.json")
	if _, err := hold.Read(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before: %v", err)
	}
	if err := hold.Write(path, sample()); err != nil {
		t.Fatal(err)
	}
	if got, err := hold.Read(path); err != nil || !reflect.DeepEqual(got, sample()) {
		t.Errorf("read %+v, %v", got, err)
	}
}

func TestForgetKeepsOthers(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.json")
	if err := hold.Forget(path, sample()); err != nil {
		t.Errorf("without a file: %v", err)
	}
	all := sample()
	other := routing.ProtectedSet{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.78.0.0/16")}}
	all.Prefixes = append(all.Prefixes, other.Prefixes...)
	if err := hold.Write(path, all); err != nil {
		t.Fatal(err)
	}
	if err := hold.Forget(path, sample()); err != nil {
		t.Fatal(err)
	}
	got, err := hold.Read(path)
	if err != nil || !reflect.DeepEqual(got.Prefixes, other.Prefixes) || len(got.Ports)+len(got.UDP) != 0 {
		t.Errorf("left: %+v, %v", got, err)
	}
	if err := hold.Forget(path, other); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty file remains: %v", err)
	}
}

func TestReadRejectsInvalid(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"nothing":            ``,
		"half a file":        `{"version":1,"prefixes":["10.77.0.0/2`,
		"another version":    `{"version":2}`,
		"an unknown key":     `{"version":1,"gateways":["10.77.0.1"]}`,
		"two documents":      `{"version":1}{"version":1}`,
		"no interface":       `{"version":1,"prefixes":["10.77.0.0/24"],"upstream_links":[{"prefix":"10.77.0.0/24","device":""}]}`,
		"no prefix":          `{"version":1,"prefixes":["10.77.0.0/24"],"upstream_links":[{"prefix":"10.0.0.0/8","device":"eth1"}]}`,
		"everything":         `{"version":1,"prefixes":["0.0.0.0/0"]}`,
		"loopback":           `{"version":1,"prefixes":["127.0.0.0/8"]}`,
		"half of everything": `{"version":1,"prefixes":["0.0.0.0/1"]}`,
		"IPv6 loopback":      `{"version":1,"prefixes":["::/64"]}`,
		"multicast":          `{"version":1,"prefixes":["224.0.0.0/24"]}`,
		"host bits":          `{"version":1,"prefixes":["10.77.0.1/24"]}`,
		"a port 0":           `{"version":1,"ports":["10.77.0.1:0"]}`,
		"a port of loopback": `{"version":1,"ports":["127.0.0.1:22"]}`,
		"a mapped address":   `{"version":1,"ports":["[::ffff:10.0.0.1]:22"]}`,
		"a zone":             `{"version":1,"ports":["[2001:db8::1%eth0]:22"]}`,
		"inside of another":  `{"version":1,"prefixes":["10.77.0.0/24"],"upstream_links":[{"prefix":"10.78.0.0/24","device":"eth1"}]}`,
		"too much":           `{"version":1` + strings.Repeat(" ", 1<<20) + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "state.json")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := hold.Read(path); err == nil || !got.IsEmpty() && !errors.Is(err, hold.ErrInvalid) {
				t.Errorf("read %+v, %v", got, err)
			}
		})
	}
}

func TestReadRejectsUntrusted(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(path string) error{
		"the file":      func(path string) error { return os.Chmod(path, 0o620) },
		"the directory": func(path string) error { return os.Chmod(filepath.Dir(path), 0o777) },
		"a link": func(path string) error {
			return errors.Join(os.Rename(path, path+".moved"), os.Symlink(path+".moved", path))
		},
		"another's file": func(path string) error {
			if os.Geteuid() != 0 {
				return os.Chmod(path, 0o620)
			}
			return os.Chown(path, 65534, 65534)
		},
		"another's directory": func(path string) error {
			if os.Geteuid() != 0 {
				return os.Chmod(path, 0o620)
			}
			return os.Chown(filepath.Dir(path), 65534, 65534)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "state.json")
			if err := hold.Write(path, sample()); err != nil {
				t.Fatal(err)
			}
			if err := spoil(path); err != nil {
				t.Fatal(err)
			}
			if got, err := hold.Read(path); !errors.Is(err, hold.ErrInvalid) || !got.IsEmpty() {
				t.Errorf("read %+v, %v", got, err)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"version":1,"prefixes":["10.77.0.0/24"],"ports":["203.0.113.7:22"],"udp_ports":["203.0.113.7:62201"]}`))
	path := filepath.Join(f.TempDir(), "state.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		h, err := hold.Read(path)
		if err != nil {
			return
		}
		for _, p := range h.Prefixes {
			if p.Addr().IsLoopback() || p.Addr().IsUnspecified() || p.Bits() == 0 {
				t.Errorf("it takes %v", p)
			}
		}
	})
}
