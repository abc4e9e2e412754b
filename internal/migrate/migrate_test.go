package migrate

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/knockgw/knockgw/client/profile"
	"github.com/knockgw/knockgw/config"
)

var update = flag.Bool("update", false, "write the golden files")

// cases are the files in testdata: NAME.in.yaml is converted to NAME.golden.
var cases = []struct {
	name string
	Options
}{
	{"server-udp", Options{Listen: netip.MustParseAddrPort("10.77.0.1:0")}},
	{"server-udp-other-port", Options{Listen: netip.MustParseAddrPort("10.77.0.1:22"), Service: "shell", TextOnly: true}},
	{"server-least", Options{}},
	{"server-direct", Options{Listen: netip.MustParseAddrPort("[fd77::1]:0")}},
	{"server-auth-only", Options{Listen: netip.MustParseAddrPort("10.77.0.1:0"), TextOnly: true}},
	{"server-visible", Options{Listen: netip.MustParseAddrPort("10.77.0.1:0")}},
	{"client-udp", Options{Service: "ssh"}},
	{"client-udp-shown", Options{TextOnly: true}},
	{"client-least", Options{}},
	{"client-direct", Options{}},
}

// inputOf returns the input file of a case, which several cases may share.
func inputOf(name string) string {
	for _, suffix := range []string{"-other-port", "-shown"} {
		name = strings.TrimSuffix(name, suffix)
	}
	return name + ".in.yaml"
}

func TestConvertAccountsForEveryKey(t *testing.T) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			input := inputOf(c.name)
			data, err := os.ReadFile(filepath.Join("testdata", input))
			if err != nil {
				t.Fatal(err)
			}
			r, err := Convert(input, data, c.Options)
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", c.name+".golden")
			got := format(r)
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// format returns a result as text.
func format(r *Result) []byte {
	var b bytes.Buffer
	for _, f := range r.Files {
		fmt.Fprintf(&b, "-- %s --\n%s", f.Name, f.Data)
	}
	b.WriteString("-- notes --\n")
	for _, n := range r.Notes {
		fmt.Fprintln(&b, n)
	}
	b.WriteString("-- next --\n")
	for _, command := range r.Next("") {
		fmt.Fprintln(&b, command)
	}
	return b.Bytes()
}

func TestWriteReadBack(t *testing.T) {
	for _, c := range cases {
		data, err := os.ReadFile(filepath.Join("testdata", inputOf(c.name)))
		if err != nil {
			t.Fatal(err)
		}
		c.TextOnly = false
		r, err := Convert(inputOf(c.name), data, c.Options)
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(t.TempDir(), "made")
		if err := r.Write(dir); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != len(r.Files) {
			t.Errorf("%s: %d files of %d: %v", c.name, len(entries), len(r.Files), err)
		}
		for _, e := range entries {
			if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %s has mode %v, %v", c.name, e.Name(), info.Mode(), err)
			}
		}
		path := filepath.Join(dir, r.Files[0].Name)
		if r.Server {
			_, err = config.Load(path)
		} else {
			_, err = profile.Load(path)
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestWriteRefusesNonEmptyDirectory(t *testing.T) {
	data, err := os.ReadFile("testdata/server-least.in.yaml")
	if err != nil {
		t.Fatal(err)
	}
	r, err := Convert("server.yaml", data, Options{})
	if err != nil {
		t.Fatal(err)
	}
	parent := t.TempDir()
	dir := filepath.Join(parent, "made")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := r.Write(dir); err != nil {
		t.Fatalf("an empty directory: %v", err)
	}
	if err := r.Write(dir); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("once more: %v", err)
	}
	file := filepath.Join(parent, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Write(file); err == nil {
		t.Error("a file was replaced by a directory")
	}
	// A result that would be rejected later is not left behind either.
	r.Files[0].Data = []byte("version: 2\n")
	if err := r.Write(filepath.Join(parent, "bad")); err == nil {
		t.Error("a bad configuration was written")
	}
	entries, err := os.ReadDir(parent)
	if err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
