package config

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// bobFile is a client file.
const bobFile = "id: bob\nsecret: 0123456789abcdeg\n"

// writeConfigDir writes minimal with a clients_dir and files in it, and returns
// the path of the configuration.
func writeConfigDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "knockgw.yaml")
	writeFiles(t, dir, map[string]string{"knockgw.yaml": minimal + "clients_dir: clients.d\n"})
	if err := os.Mkdir(filepath.Join(dir, "clients.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	writeFiles(t, filepath.Join(dir, "clients.d"), files)
	return path
}

func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestClientsDirFiles(t *testing.T) {
	path := writeConfigDir(t, map[string]string{
		"bob.yaml":   bobFile + "services: [ssh]\nmax_flows: 7\n",
		"carol.yaml": "{id: carol, secret_file: carol.key}",
		"carol.key":  "0123456789abcdeh\n", ".dave.yaml": "torn", "bob.yaml.tmp": "torn", "README": "torn",
	})
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for i := range c.Clients {
		ids = append(ids, c.Clients[i].ID)
	}
	if got := strings.Join(ids, " "); got != "alice bob carol" {
		t.Fatalf("the clients are %s", got)
	}
	bob, carol := c.Clients[1], c.Clients[2]
	if bob.MaxFlows != 7 || bob.MayUse("other") || !bob.MayUse("ssh") || string(bob.Secrets[0].Secret[:]) != "0123456789abcdeg" {
		t.Errorf("bob is %+v", bob)
	}
	if string(carol.Secrets[0].Secret[:]) != "0123456789abcdeh" {
		t.Error("carol's key was not read from beside her file")
	}
	if want := filepath.Join(filepath.Dir(path), "clients.d"); c.ClientsDir != want {
		t.Errorf("ClientsDir is %s, not %s", c.ClientsDir, want)
	}
}

func TestPosition(t *testing.T) {
	path := writeConfigDir(t, map[string]string{"bob.yaml": "# a comment\n" + bobFile})
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]Position{
		"alice": {path, 3}, "bob": {filepath.Join(filepath.Dir(path), "clients.d", "bob.yaml"), 2},
	} {
		if got, ok := c.Position(id); !ok || got != want {
			t.Errorf("%s is at %v, not %v", id, got, want)
		}
	}
	if got, ok := c.Position("carol"); ok {
		t.Errorf("carol is at %v", got)
	}
}

func TestClientsDirErrors(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"unknown key", map[string]string{"bob.yaml": bobFile + "servcies: [ssh]\n"}, []string{`clients.d/bob.yaml:3: unknown key "servcies"; did you mean services?`}},
		{"a list", map[string]string{"bob.yaml": "- id: bob\n"}, []string{"clients.d/bob.yaml:1: must be a mapping"}},
		{"no YAML", map[string]string{"bob.yaml": "id: [bob\n"}, []string{"clients.d/bob.yaml:1: not YAML"}},
		{"empty", map[string]string{"bob.yaml": ""}, []string{"clients.d/bob.yaml:1: the file is empty"}},
		{"another service", map[string]string{"bob.yaml": bobFile + "services: [shh]\n"}, []string{`clients.d/bob.yaml:3: services[0]: there is no service "shh"; did you mean ssh?`}},
		{"an id of the main file", map[string]string{"alice.yaml": "id: alice\nsecret: 0123456789abcdeg\n"},
			[]string{`clients.d/alice.yaml:1: id: "alice" is already the client of `, "knockgw.yaml, line 3"}},
		{"an id of another file", map[string]string{"bob.yaml": bobFile, "bob2.yaml": "\nid: bob\nsecret: 0123456789abcdeh\n"},
			[]string{`clients.d/bob2.yaml:2: id: "bob" is already the client of `, "bob.yaml, line 1"}},
		{"a key of others", map[string]string{"bob.yaml": "id: bob\nsecret_file: /nowhere/key\n"}, []string{"clients.d/bob.yaml:2: secret_file: ", "make the file with knockgw keygen"}},
		{"too large", map[string]string{"bob.yaml": bobFile + strings.Repeat("#", maxClientFile)}, []string{"clients.d/bob.yaml: ", "more than 65536 bytes"}},
		{"two files", map[string]string{"bob.yaml": bobFile + "a: 1\n", "carol.yaml": "id: carol\n"},
			[]string{"clients.d/bob.yaml:3: ", "clients.d/carol.yaml:1: secret_file is missing"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Load(writeConfigDir(t, c.files))
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range c.want {
				if !strings.Contains(filepath.ToSlash(err.Error()), want) {
					t.Errorf("%v\nwant %q in it", err, want)
				}
			}
		})
	}
}

func TestClientsDirInsecureFile(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such modes")
	}
	path := writeConfigDir(t, map[string]string{"bob.yaml": bobFile})
	if err := os.Chmod(filepath.Join(filepath.Dir(path), "clients.d", "bob.yaml"), 0o640); err != nil {
		t.Fatal(err)
	}
	_, err := Load(path)
	if err == nil || !strings.Contains(err.Error(), "bob.yaml: is open to accounts other than its owner (mode 0640); chmod 600 it") {
		t.Errorf("the error is %v", err)
	}
}

func TestClientsDirSharedSecret(t *testing.T) {
	c, err := Load(writeConfigDir(t, map[string]string{"bob.yaml": "id: bob\nsecret: 0123456789abcdef\n"}))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Warnings) == 0 || !strings.Contains(c.Warnings[0], `bob.yaml:2: secret: is also the secret of client "alice" (`) {
		t.Errorf("the warnings are %q", c.Warnings)
	}
}

func TestClientsDirMissing(t *testing.T) {
	path := writeConfigDir(t, nil)
	if err := os.Remove(filepath.Join(filepath.Dir(path), "clients.d")); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil || len(c.Warnings) == 0 || !strings.Contains(c.Warnings[0], "knockgw client add makes it") {
		t.Fatalf("%v", err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "clients.d"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), ":6: clients_dir: ") {
		t.Errorf("a file in its place: %v", err)
	}
}

func TestParseServiceAddress(t *testing.T) {
	c := mustParse(t, strings.Replace(minimal, "name: ssh,", "name: ssh, address: ssh.example.org:2022,", 1))
	if got := c.Services[0].Address; got != "ssh.example.org:2022" {
		t.Errorf("it is %q", got)
	}
	_, err := Parse("test.yaml", []byte(strings.Replace(minimal, "name: ssh,", "name: ssh, address: ssh.example.org,", 1)))
	if err == nil || !strings.Contains(err.Error(), "test.yaml:5: services[0].address: ") {
		t.Errorf("without a port: %v", err)
	}
}

func TestLoadLenient(t *testing.T) {
	path := writeConfigDir(t, map[string]string{
		"bob.yaml": bobFile, "bob2.yaml": "id: bob\nsecret: 0123456789abcdei\n", "carol.yaml": "id: carol\nsecrte: x\n",
		"dave.yaml": "id: dave\nsecret: 0123456789abcdej\nservices: [none]\n", "erin.yaml": "id: erin\nsecret: 0123456789abcdek\n",
	})
	c, err := LoadLenient(path)
	if c == nil || err == nil {
		t.Fatalf("%v, %v", c, err)
	}
	var ids []string
	for i := range c.Clients {
		ids = append(ids, c.Clients[i].ID)
	}
	if got := strings.Join(ids, " "); got != "alice bob erin" {
		t.Errorf("the good ones are %s", got)
	}
	for _, want := range []string{"bob2.yaml:1: ", "carol.yaml:2: ", "dave.yaml:3: "} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	writeFiles(t, filepath.Dir(path), map[string]string{"knockgw.yaml": minimal + "clients_dir: clients.d\nbad: true\n"})
	if c, err := LoadLenient(path); c != nil || err == nil {
		t.Errorf("a mistake elsewhere: %v, %v", c, err)
	}
}
