package migrate

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// good is a valid file of a server, and goodClient one of a client, to which the
// cases add errors.
const (
	good = `mode: server
server: {tcp_listen: "0.0.0.0:443", upstream: "127.0.0.1:22"}
auth: {clients: [{client_id: a, secret: the secret of client a}]}
`
	goodClient = `mode: client
client: {server_addr: "example.com:443", client_id: a, secret: the secret of client a}
`
)

var listen = netip.MustParseAddrPort("10.77.0.1:0")

func TestConvertErrors(t *testing.T) {
	for _, c := range []struct {
		file, says string
		Options
	}{
		{"", "f.yaml:1: the file is empty", Options{}},
		{"a: [", "f.yaml:1: not YAML", Options{}},
		{"mode: server\nserver: {\n  tcp_listen: 'x\n", "f.yaml:", Options{}},
		{"- a\n", "f.yaml:1: must be a mapping", Options{}},
		{"log: {level: info}\n", "f.yaml:1: mode: is missing; write client or server", Options{}},
		{"mode: both\n", `f.yaml:1: mode: "both" is not known; write client or server`, Options{}},
		{good, "f.yaml:2: server.tcp_listen: \"0.0.0.0:443\" means every address of the host", Options{}},
		{good, "set --listen 10.77.0.1", Options{}},
		{good, "--listen: 127.0.0.1 cannot be routed", Options{Listen: netip.MustParseAddrPort("127.0.0.1:0")}},
		{good, "--service: \"a b\" is not a name", Options{Listen: listen, Service: "a b"}},
		{good + "mode: server\n", "f.yaml:4: mode: is already given in line 1", Options{Listen: listen}},
		{good + "knock: [udp]\n", "f.yaml:4: knock: must be a mapping", Options{Listen: listen}},
		{good + "knock: {method: dns}\n", `f.yaml:4: knock.method: "dns" is not a knock method`, Options{Listen: listen}},
		{good + "knock: {method: udp, udp_port: 70000}\n", "knock.udp_port: 70000 is not a port", Options{Listen: listen}},
		{good + "knock: {method: udp, udp_port: 1, udp_knock_port: 2}\n", "knock.udp_port: 1 contradicts knock.udp_knock_port", Options{Listen: listen}},
		{good + "knock: {time_window_seconds: 301}\n", "both sides must have the same", Options{Listen: listen}},
		{good + "knock: {time_window_seconds: -1}\n", "is negative", Options{Listen: listen}},
		{good + "knock: {time_window_seconds: soon}\n", "must be a whole number, not text", Options{Listen: listen}},
		{good + "access: {mode: open}\n", `access.mode: "open" is not known`, Options{Listen: listen}},
		{good + "access: {require_tcp_auth: 3}\n", "must be true or false", Options{Listen: listen}},
		{good + "metrics: {enabled: true, listen: 'somewhere:1'}\n", "f.yaml:4: metrics.listen", Options{Listen: listen}},
		{good + "metrics: {enabled: true, listen: '10.77.0.1:1'}\n", "an unprotected address", Options{Listen: listen}},
		{strings.Replace(good, "127.0.0.1:22", "10.77.0.1:22", 1), "server.upstream: \"10.77.0.1:22\" is at the protected address", Options{Listen: listen}},
		{strings.Replace(good, "the secret of client a", "short", 1), "f.yaml:3: auth.clients[0].secret: the secret has 5 bytes", Options{Listen: listen}},
		{strings.Replace(good, "secret: the secret of client a", "secret_file: /nowhere/to/be/found", 1), "run knockgw migrate on the host with the file", Options{Listen: listen}},
		{strings.Replace(good, "secret: the secret of client a", "", 1), "f.yaml:3: auth.clients[0].secret: is missing", Options{Listen: listen}},
		{strings.Replace(good, "client_id: a, ", "", 1), "auth.clients[0].client_id: is missing", Options{Listen: listen}},
		{strings.Replace(good, "[{", "[{client_id: a, secret: another secret of a}, {", 1), "is already the client of line 3", Options{Listen: listen}},
		{goodClient + "auth: {buckets: [100]}\n", "is not a bucket", Options{}},
		{goodClient + "auth: {protocol: v3}\n", `auth.protocol: "v3" is not known`, Options{}},
		{strings.Replace(goodClient, "example.com:443", "example.com", 1), "f.yaml:2: client.server_addr", Options{}},
		{strings.Replace(goodClient, "client_id: a, ", "", 1), "client.client_id: is missing", Options{}},
	} {
		r, err := Convert("f.yaml", []byte(c.file), c.Options)
		if err == nil {
			t.Errorf("%q passed, and became %s", c.file, format(r))
		} else if !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %v\nwant %q", c.file, err, c.says)
		} else if strings.Contains(err.Error(), "secret of client") {
			t.Errorf("%q: the secret is in the error: %v", c.file, err)
		}
	}
}

func TestConvertUnknownKeys(t *testing.T) {
	r, err := Convert("f.yaml", []byte(good+"knok: {x: classified}\nlog: {levl: classified}\nlimits:\n  zzz: classified\n"), Options{Listen: listen})
	if err != nil {
		t.Fatal(err)
	}
	all := string(format(r))
	for _, want := range []string{
		`f.yaml:4: warning: unknown key "knok": not converted; did you mean knock?`,
		`f.yaml:5: log: warning: unknown key "levl": not converted; did you mean level?`,
		`f.yaml:7: limits: warning: unknown key "zzz": not converted`,
	} {
		if !strings.Contains(all, want) {
			t.Errorf("%s\nlacks %s", all, want)
		}
	}
	if strings.Contains(all, "classified") {
		t.Errorf("a value is repeated: %s", all)
	}
}

// secretFiles returns a directory with secret files.
func secretFiles(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"private.key": 0o600, "open.key": 0o644, "padded.key": 0o600} {
		text := "the secret in a file\n"
		if name == "padded.key" {
			text = "  the secret in a file \n\n"
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestConvertSecretFiles(t *testing.T) {
	dir := secretFiles(t)
	for _, c := range []struct {
		file   string
		copied bool
		note   string
	}{
		{"private.key", false, ""},
		{"open.key", true, "is open to accounts"},
		{"padded.key", true, "white space"},
	} {
		file := strings.Replace(good, "secret: the secret of client a", "secret_file: "+c.file, 1)
		for _, textOnly := range []bool{false, true} {
			r, err := Convert(filepath.Join(dir, "f.yaml"), []byte(file), Options{Listen: listen, TextOnly: textOnly})
			if err != nil {
				t.Fatal(err)
			}
			text, notes := string(r.Files[0].Data), string(format(r))
			if copied := len(r.Files) == 2; copied != (c.copied && !textOnly) {
				t.Errorf("%s, text only %v: copied: %v", c.file, textOnly, copied)
			}
			if stays := strings.Contains(text, filepath.Join(dir, c.file)); stays != (textOnly || !c.copied) {
				t.Errorf("%s, text only %v: stays: %v\n%s", c.file, textOnly, stays, text)
			}
			if !strings.Contains(notes, c.note) {
				t.Errorf("%s, text only %v: %s\nlacks %q", c.file, textOnly, notes, c.note)
			}
			if strings.Contains(text, "the secret") {
				t.Errorf("%s, text only %v: the secret is in the configuration", c.file, textOnly)
			}
			if textOnly {
				continue
			}
			if err := r.Write(filepath.Join(t.TempDir(), "made")); err != nil {
				t.Errorf("%s: %v", c.file, err)
			}
		}
	}
}

func TestConvertClientSecretFile(t *testing.T) {
	dir := secretFiles(t)
	file := strings.Replace(goodClient, "secret: the secret of client a", "secret_file: open.key", 1)
	r, err := Convert(filepath.Join(dir, "f.yaml"), []byte(file), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if want := "hex:74686520736563726574"; len(r.Files) != 1 || !strings.Contains(string(r.Files[0].Data), want) {
		t.Errorf("%s", format(r))
	}
}
