package enroll

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/client/profile"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/protocol"
)

const gateway = `tun: {routes: [10.77.0.0/24, "fd77::/64"]}
clients_dir: clients.d
knock: {gateway: edge-1, udp_port: 1234, window: 10s, slot: 20s, sequence: {length: 4, slot: 15s}}
clients:
  - {id: main, secret: 0123456789abcdef}
services:
  - {name: ssh, listen: "10.77.0.1:22", upstream: "10.0.2.2:22"}
  - {name: six, listen: "[fd77::1]:443", upstream: "10.0.2.2:443", port: 8443, mode: auth, auth: {protocols: [v1], proof: false}}
  - {name: net, listen: "10.77.0.64/26:443", upstream: "10.0.2.2:443", mode: knock, knock: [udp-v2, udp-seq]}
  - {name: seq, listen: "10.77.0.2:22", upstream: "10.0.2.2:22", knock: [tcp-syn-seq, udp-seq], auth: {hint: none, buckets: [128]}}
  - {name: syn, listen: "10.77.0.3:22", address: "syn.example.org:2022", upstream: "10.0.2.2:22", knock: [tcp-syn]}
`

// writeConfig writes a configuration with these files in its clients_dir.
func writeConfig(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "clients.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "knockgw.yaml")
	files = merged(files, "../knockgw.yaml", gateway)
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, "clients.d", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func merged(files map[string]string, name, text string) map[string]string {
	all := map[string]string{name: text}
	for n, t := range files {
		all[n] = t
	}
	return all
}

func TestProfileHasGatewaySettings(t *testing.T) {
	c, err := config.Load(writeConfig(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	p, err := Profile(c, "main", c.Clients[0].Secrets[0].Secret, ProfileOptions{Name: "edge"})
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "edge" || p.Client != "main" || p.Gateway != "edge-1" || p.Window != 10*time.Second ||
		!bytes.Equal(p.Secret, []byte("0123456789abcdef")) {
		t.Errorf("it is %+v of %s for %s", p, p.Client, p.Gateway)
	}
	buckets := protocol.DefaultBuckets()
	want := []profile.Service{
		{Name: "ssh", Address: "10.77.0.1:22", Mode: "knock-auth", Method: "udp-v2", KnockPort: 1234, Port: 22, Slot: 20 * time.Second,
			Auth: profile.Auth{Protocol: "v2", Hint: "route-hint", Buckets: buckets, Proof: true}},
		{Name: "six", Address: "[fd77::1]:443", Mode: "auth", KnockPort: 1234, Port: 8443, Auth: profile.Auth{Protocol: "v1"}},
		{Name: "net", Address: "10.77.0.64/26:443", Mode: "knock", Method: "udp-v2", KnockPort: 1234, Port: 443, Slot: 20 * time.Second},
		{Name: "seq", Address: "10.77.0.2:22", Mode: "knock-auth", Method: "udp-seq", KnockPort: 1234, Port: 22,
			Auth:     profile.Auth{Protocol: "v2", Hint: "none", Buckets: []int{128}, Proof: true},
			Sequence: client.Sequence{Length: 4, Slot: 15 * time.Second}},
		{Name: "syn", Address: "syn.example.org:2022", Mode: "knock-auth", Method: "tcp-syn", KnockPort: 1234, Port: 22,
			Auth: profile.Auth{Protocol: "v2", Hint: "route-hint", Buckets: buckets, Proof: true}, Slot: 10 * time.Second},
	}
	for i := range want {
		if !reflect.DeepEqual(p.Services[i], want[i]) {
			t.Errorf("got  %+v\nwant %+v", p.Services[i], want[i])
		}
	}
}

func TestProfileRejectsUnusableOptions(t *testing.T) {
	c, err := config.Load(writeConfig(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	secret := c.Clients[0].Secrets[0].Secret
	for _, c2 := range []struct {
		name, id string
		terms    ProfileOptions
		says     string
	}{
		{"an unknown client", "bob", ProfileOptions{Name: "edge"}, "there is no client"},
		{"a method that a service does not take", "main", ProfileOptions{"edge", "tcp-syn"}, "service net does not accept the method tcp-syn; choose udp-v2 or udp-seq"},
		{"a bad name", "main", ProfileOptions{Name: "a/b"}, "is not a name"},
	} {
		if p, err := Profile(c, c2.id, secret, c2.terms); err == nil || !strings.Contains(err.Error(), c2.says) {
			t.Errorf("%s: %v, %v", c2.name, p, err)
		}
	}
}

// secrets returns the secrets of a client in the configuration at path.
func secrets(t *testing.T, path, id string) []config.ClientSecret {
	t.Helper()
	c, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, client := range c.Clients {
		if client.ID == id {
			return client.Secrets
		}
	}
	return nil
}

func TestAddAndUndo(t *testing.T) {
	path := writeConfig(t, nil)
	for _, id := range []string{"bob", "../bob", "Bøb", ".bob", strings.Repeat("b", 300), strings.Repeat("b", 301), "\n", "5", "null"} {
		secret, err := NewSecret()
		if err != nil {
			t.Fatal(err)
		}
		change, err := Add(path, NewClient{ID: id, Secret: secret, Services: []string{"ssh"}})
		if err != nil {
			t.Fatal(err)
		}
		if got := secrets(t, path, id); len(got) != 1 || !bytes.Equal(got[0].Secret, secret) {
			t.Errorf("%q has %d secrets", id, len(got))
		}
		if dir := filepath.Dir(change.File); filepath.Base(dir) != "clients.d" {
			t.Errorf("%q is in %s", id, change.File)
		}
		if err := change.Undo(); err != nil || secrets(t, path, id) != nil {
			t.Errorf("%q is still there: %v", id, err)
		}
	}
}

func TestErrorsChangeNothing(t *testing.T) {
	const bob = "# Bob's\nid: bob\nsecret: 0123456789abcdeg\n"
	path := writeConfig(t, map[string]string{"bob.yaml": bob, "eight.yaml": "id: eight\nsecrets:\n" + maxSecrets()})
	secret := protocol.Secret("0123456789abcdeh")
	for name, try := range map[string]func() (*Change, error){
		"an id that is taken":    func() (*Change, error) { return Add(path, NewClient{ID: "bob", Secret: secret}) },
		"an id of the main file": func() (*Change, error) { return Add(path, NewClient{ID: "main", Secret: secret}) },
		"a service that is not there": func() (*Change, error) {
			return Add(path, NewClient{ID: "dora", Secret: secret, Services: []string{"shh"}})
		},
		"no id":                    func() (*Change, error) { return Add(path, NewClient{ID: "", Secret: secret}) },
		"a NUL":                    func() (*Change, error) { return Add(path, NewClient{ID: "a\x00b", Secret: secret}) },
		"too many secrets":         func() (*Change, error) { return Rotate(path, "eight", secret, time.Now().Add(time.Hour)) },
		"rotating one that is not": func() (*Change, error) { return Rotate(path, "carl", secret, time.Time{}) },
		"rotating one of the main": func() (*Change, error) { return Rotate(path, "main", secret, time.Time{}) },
		"removing one of the main": func() (*Change, error) { return Remove(path, "main") },
		"a short secret":           func() (*Change, error) { return Add(path, NewClient{ID: "dora", Secret: secret[:3]}) },
		"another's secret": func() (*Change, error) {
			return Rotate(path, "bob", protocol.Secret("0123456789abcdeg"), time.Now().Add(time.Hour))
		},
	} {
		before := snapshot(t, filepath.Dir(path))
		if _, err := try(); err == nil {
			t.Errorf("%s: no error", name)
		} else if strings.Contains(err.Error(), "0123456789abcde") {
			t.Errorf("%s: a secret is in the error: %v", name, err)
		}
		if after := snapshot(t, filepath.Dir(path)); !reflect.DeepEqual(before, after) {
			t.Errorf("%s: the files changed from %q to %q", name, before, after)
		}
	}
	if _, err := Add(filepath.Join(t.TempDir(), "none.yaml"), NewClient{ID: "bob", Secret: secret}); err == nil {
		t.Error("no configuration: no error")
	}
}

// maxSecrets returns as many secrets as a client may have.
func maxSecrets() string {
	var b strings.Builder
	for _, c := range "hijklmno" {
		b.WriteString("  - secret: 0123456789abcde" + strings.ToUpper(string(c)) + "\n")
	}
	return b.String()
}

// snapshot returns the contents of the files under a directory.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		files[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestAddWithoutClientsDir(t *testing.T) {
	path := writeConfig(t, nil)
	if err := os.WriteFile(path, []byte(strings.Replace(gateway, "clients_dir: clients.d\n", "", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Add(path, NewClient{ID: "bob", Secret: protocol.Secret("0123456789abcdeh")}); !errors.Is(err, ErrNoClientsDir) {
		t.Errorf("the error is %v", err)
	}
}

func TestRotateKeepsOldSecretsAndFile(t *testing.T) {
	until := time.Now().Add(24 * time.Hour).Truncate(time.Second).UTC()
	soon := until.Add(-time.Hour)
	for _, c := range []struct {
		name, before string
		until        time.Time
		want         []time.Time // ends, the new secret's first
	}{
		{"one secret", "secret: 0123456789abcdeg", until, []time.Time{{}, until}},
		{"a file", "secret_file: bob.key", until, []time.Time{{}, until}},
		{"several", "secrets: [{secret: 0123456789abcdeg}, {secret_file: bob.key, until: " + soon.Format(time.RFC3339) + "}]", until, []time.Time{{}, until, soon}},
		{"one that would end later", "secrets: [{secret: 0123456789abcdeg, until: 2098-12-31}]", until, []time.Time{{}, until}},
		{"one that has ended", "secrets: [{secret: 0123456789abcdeg}, {secret_file: bob.key, until: 2001-12-31}]", until, []time.Time{{}, until}},
		{"at once", "secrets: [{secret: 0123456789abcdeg}, {secret_file: bob.key}]", time.Time{}, []time.Time{{}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := writeConfig(t, map[string]string{
				"bob.yaml": "# Bob, of the night shift\nid: bob\n" + c.before + "\nmax_flows: 7 # enough\n", "bob.key": "0123456789abcdeh\n",
			})
			before := snapshot(t, filepath.Dir(path))
			secret := protocol.Secret("0123456789abcdei")
			change, err := Rotate(path, "bob", secret, c.until)
			if err != nil {
				t.Fatal(err)
			}
			got := secrets(t, path, "bob")
			var ends []time.Time
			for _, s := range got {
				ends = append(ends, s.Until.UTC())
			}
			if !reflect.DeepEqual(ends, c.want) || !bytes.Equal(got[0].Secret, secret) {
				t.Errorf("the ends are %v, not %v", ends, c.want)
			}
			text, err := os.ReadFile(change.File)
			if err != nil || !strings.Contains(string(text), "# Bob, of the night shift") || !strings.Contains(string(text), "max_flows: 7 # enough") {
				t.Errorf("the file is now %v\n%s", err, text)
			}
			if err := change.Undo(); err != nil || !reflect.DeepEqual(before, snapshot(t, filepath.Dir(path))) {
				t.Errorf("undone, it is not as it was: %v", err)
			}
		})
	}
}

func TestRemoveAndUndo(t *testing.T) {
	path := writeConfig(t, map[string]string{"whatever.yaml": "id: bob\nsecret: 0123456789abcdeg\n"})
	before := snapshot(t, filepath.Dir(path))
	change, err := Remove(path, "bob")
	if err != nil || secrets(t, path, "bob") != nil {
		t.Fatalf("it is still there: %v", err)
	}
	if err := change.Undo(); err != nil || !reflect.DeepEqual(before, snapshot(t, filepath.Dir(path))) {
		t.Errorf("undone, it is not as it was: %v", err)
	}
}
