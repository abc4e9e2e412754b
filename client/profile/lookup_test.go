package profile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// twoServices is a profile with services of every kind of address.
const twoServices = minimal + `  - {name: wiki, address: "wiki.Example.org:443"}
  - {name: net, address: "10.77.0.0/24:22"}
  - {name: half, address: "10.77.0.128/25:22"}
  - {name: six, address: "[fd77::1]:5432"}
  - {name: net6, address: "[fd77::/64]:22"}
`

func TestProfileFind(t *testing.T) {
	p := mustParse(t, twoServices)
	for _, c := range []struct{ target, service, address string }{
		{"ssh", "ssh", "10.77.0.1:22"},
		{"SSH", "ssh", "10.77.0.1:22"},
		{"ssh:22", "ssh", "10.77.0.1:22"},
		{"wiki:80", "wiki", "wiki.Example.org:443"},
		{"10.77.0.1:22", "ssh", "10.77.0.1:22"},
		{"[::ffff:10.77.0.1]:22", "ssh", "10.77.0.1:22"},
		{"10.77.0.2:22", "net", "10.77.0.2:22"},
		{"10.77.0.200:22", "half", "10.77.0.200:22"},
		{"WIKI.example.org.:443", "wiki", "wiki.Example.org:443"},
		{"[fd77:0::1]:5432", "six", "[fd77::1]:5432"},
		{"[fd77::1]:22", "net6", "[fd77::1]:22"},
	} {
		t.Run(c.target, func(t *testing.T) {
			endpoint, err := p.Find(c.target)
			if err != nil {
				t.Fatal(err)
			}
			if endpoint.Service.Name != c.service || endpoint.Address != c.address || endpoint.Profile != p {
				t.Errorf("it is %v at %s", endpoint, endpoint.Address)
			}
		})
	}
}

func TestProfileFindUnknown(t *testing.T) {
	p := mustParse(t, twoServices)
	for _, target := range []string{"sh", "10.77.1.1:22", "10.77.0.1:23", "fd77::1", "", "wiki.example.org", "other.example.org:443"} {
		_, err := p.Find(target)
		if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "wiki (wiki.Example.org:443)") {
			t.Errorf("%q: %v", target, err)
		}
	}
	if _, err := p.Find("net"); err == nil || !strings.Contains(err.Error(), "name one, such as 10.77.0.1:22") {
		t.Errorf("a prefix by its name: %v", err)
	}
}

// newDirectory makes a directory with these files.
func newDirectory(t *testing.T, files map[string]string) Directory {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Directory(dir)
}

func TestDirectoryFind(t *testing.T) {
	home := strings.NewReplacer("office", "home", "10.77", "10.78").Replace(minimal)
	dir := newDirectory(t, map[string]string{
		"office.yaml": twoServices, "h.yaml": home, "notes.txt": "no profile", ".half.yaml": "torn", ".home.yaml.1.tmp": "torn",
	})
	for _, c := range []struct{ target, endpoint, address string }{
		{"wiki", "office/wiki", "wiki.Example.org:443"},
		{"10.78.0.1:22", "home/ssh", "10.78.0.1:22"},
		{"home/ssh", "home/ssh", "10.78.0.1:22"},
		{"Office/ssh:22", "office/ssh", "10.77.0.1:22"},
		{"ssh.home", "home/ssh", "10.78.0.1:22"},
		{"SSH.Office:2222", "office/ssh", "10.77.0.1:22"},
		{"office/10.77.0.9:22", "office/net", "10.77.0.9:22"},
	} {
		endpoint, err := dir.Find(c.target)
		if err != nil || endpoint.String() != c.endpoint || endpoint.Address != c.address {
			t.Errorf("%s: %v, %v", c.target, endpoint, err)
		}
	}
	for _, c := range []struct{ target, says string }{
		{"ssh", "choose home/ssh or office/ssh"},
		{"mail", "home: ssh (10.78.0.1:22); office: ssh (10.77.0.1:22), wiki"},
		{"home/wiki", "known: home: ssh"},
		{"work/ssh", "no profile in "},
		{"office/net", "name one, such as 10.77.0.1:22"},
		{"net", "name one, such as 10.77.0.1:22"},
	} {
		if endpoint, err := dir.Find(c.target); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, %v; want %q", c.target, endpoint, err, c.says)
		}
	}
}

func TestDirectoryLoadInvalidFile(t *testing.T) {
	dir := newDirectory(t, map[string]string{"office.yaml": minimal, "bad.yaml": "profile: home\n"})
	all, err := dir.Load()
	if len(all) != 1 || err == nil || !strings.Contains(err.Error(), "bad.yaml:1: ") {
		t.Errorf("Load: %v, %v", all, err)
	}
	if endpoint, err := dir.Find("ssh"); err != nil || endpoint.String() != "office/ssh" {
		t.Errorf("the good one: %v, %v", endpoint, err)
	}
	if _, err := dir.Find("mail"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "bad.yaml:1: ") {
		t.Errorf("what it might have had: %v", err)
	}
}

func TestDirectoryLoadDuplicateNames(t *testing.T) {
	dir := newDirectory(t, map[string]string{"a.yaml": minimal, "b.yaml": strings.Replace(minimal, "office", "OFFICE", 1)})
	if all, err := dir.Load(); len(all) != 0 || err == nil || !strings.Contains(err.Error(), "have the same name, office; remove all but one") {
		t.Errorf("%v, %v", all, err)
	}
}

func TestDirectoryFindEmpty(t *testing.T) {
	for _, dir := range []Directory{newDirectory(t, nil), Directory(filepath.Join(t.TempDir(), "none"))} {
		_, err := dir.Find("ssh")
		if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), string(dir)) || !strings.Contains(err.Error(), "knockgw import FILE") {
			t.Errorf("the error is %v", err)
		}
	}
}

func TestLoadInsecureFile(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such modes")
	}
	dir := newDirectory(t, map[string]string{"office.yaml": minimal})
	if err := os.Chmod(filepath.Join(string(dir), "office.yaml"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := dir.Find("ssh"); err == nil || !strings.Contains(err.Error(), "chmod 600 it") {
		t.Errorf("the error is %v", err)
	}
}

func TestDirectorySaveReplace(t *testing.T) {
	dir := Directory(filepath.Join(t.TempDir(), "new", "knockgw"))
	p := mustParse(t, minimal)
	path, err := dir.Save(p, false)
	if err != nil || path != filepath.Join(string(dir), "office.yaml") {
		t.Fatalf("%s, %v", path, err)
	}
	if runtime.GOOS != "windows" {
		for path, mode := range map[string]fs.FileMode{path: 0o600, string(dir): 0o700} {
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
				t.Errorf("%s has the mode %v, %v", path, info.Mode(), err)
			}
		}
	}
	p.Client = "bob"
	if _, err := dir.Save(p, false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("again: %v", err)
	}
	if got, err := Load(path); err != nil || got.Client != "alice" {
		t.Errorf("it was touched: %v, %v", got, err)
	}
	if _, err := dir.Save(p, true); err != nil {
		t.Fatal(err)
	}
	if got, err := Load(path); err != nil || got.Client != "bob" {
		t.Errorf("it was not replaced: %v, %v", got, err)
	}
}

func TestDirectorySaveRenamedFile(t *testing.T) {
	dir := newDirectory(t, map[string]string{"o.yaml": minimal})
	p := mustParse(t, strings.Replace(minimal, "office", "Office", 1))
	if _, err := dir.Save(p, false); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "o.yaml") {
		t.Errorf("the error is %v", err)
	}
	if path, err := dir.Save(p, true); err != nil || filepath.Base(path) != "o.yaml" {
		t.Errorf("%s, %v", path, err)
	}
	if err := dir.Remove("office"); err != nil {
		t.Error(err)
	}
	if err := dir.Remove("office"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a second time: %v", err)
	}
	if err := dir.Remove("../o"); err == nil {
		t.Error("a path was taken for a name")
	}
}

func TestDefaultDirectory(t *testing.T) {
	home := t.TempDir()
	for _, c := range []struct{ own, xdg, want string }{
		{"/profiles", "/xdg", "/profiles"},
		{"", home, filepath.Join(home, "knockgw")},
		{"", "relative", filepath.Join(home, ".config", "knockgw")},
		{"", "", filepath.Join(home, ".config", "knockgw")},
	} {
		t.Setenv(DirectoryVariable, c.own)
		t.Setenv("XDG_CONFIG_HOME", c.xdg)
		t.Setenv("HOME", home)
		t.Setenv("USERPROFILE", home)
		if got, err := DefaultDirectory(); err != nil || string(got) != c.want {
			t.Errorf("%q, %q: %s, %v", c.own, c.xdg, got, err)
		}
	}
}
