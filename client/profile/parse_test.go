package profile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/client"
)

const secretHex = "hex:303132333435363738396162636465663031323334353637383961626364656637"

// minimal is a profile with the required keys only, one per line.
const minimal = `profile: office
client: alice
secret: "` + secretHex + `"
services:
  - name: ssh
    address: 10.77.0.1:22
`

// fullProfile has every key, with a value other than its default.
const fullProfile = `version: 1
profile: office
client: älice
secret: "` + secretHex + `"
gateway: edge-1
server: libknock
window: 10s
services:
  - name: ssh
    address: 10.77.0.0/24:22
    mode: knock-auth
    method: tcp-syn-seq
    knock_port: 1234
    port: 2222
    auth: {protocol: v1, hint: none, buckets: [512, 128], proof: true}
    sequence: {length: 4, gap: 100ms, slot: 1m, legacy: true}
    slot: 20s
  - {name: web, address: "[fd77::1]:443", mode: auth}
`

func replaceInMinimal(old, replacement string) string {
	if !strings.Contains(minimal, old) {
		panic(old)
	}
	return strings.Replace(minimal, old, replacement, 1)
}

func mustParse(t *testing.T, text string) *Profile {
	t.Helper()
	p, err := Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParseDefaults(t *testing.T) {
	got := mustParse(t, minimal)
	want := Service{
		Name: "ssh", Address: "10.77.0.1:22", Mode: "knock-auth", Method: "udp", KnockPort: 62201, Port: 22,
		Auth: Auth{Protocol: "v2", Hint: "route-hint", Buckets: []int{128, 192, 256, 384, 512}},
		Slot: 30 * time.Second, Sequence: client.Sequence{Length: 3, Gap: 80 * time.Millisecond, Slot: 30 * time.Second},
	}
	if !reflect.DeepEqual(got.Services, []Service{want}) {
		t.Errorf("got %+v", got.Services)
	}
	if got.Server != "knockgw" || got.Window != 30*time.Second || got.Gateway != "" {
		t.Errorf("server %s, window %v, gateway %q", got.Server, got.Window, got.Gateway)
	}
}

func TestParseAddressNormalized(t *testing.T) {
	for text, want := range map[string]string{
		"10.77.0.1:22": "10.77.0.1:22", "10.77.0.1/32:22": "10.77.0.1:22", "[::ffff:10.77.0.1]:22": "10.77.0.1:22",
		"[fd77:0::1]:22": "[fd77::1]:22", "[fd77::/64]:22": "[fd77::/64]:22", "10.77.0.0/24:22": "10.77.0.0/24:22",
		"ssh.example.org:22": "ssh.example.org:22", "127.0.0.1:22": "127.0.0.1:22",
	} {
		p := mustParse(t, replaceInMinimal("10.77.0.1:22", `"`+text+`"`))
		if got := p.Services[0].Address; got != want || p.Services[0].Port != 22 {
			t.Errorf("%s became %s with port %d", text, got, p.Services[0].Port)
		}
	}
}

func TestParseAllKeys(t *testing.T) {
	got := mustParse(t, fullProfile)
	want := &Profile{
		Name: "office", Client: "älice", Secret: []byte("0123456789abcdef0123456789abcdef7"), Gateway: "edge-1",
		Server: "libknock", Window: 10 * time.Second,
		Services: []Service{{
			Name: "ssh", Address: "10.77.0.0/24:22", Mode: "knock-auth", Method: "tcp-syn-seq", KnockPort: 1234, Port: 2222,
			Auth: Auth{Protocol: "v1", Hint: "none", Buckets: []int{128, 512}, Proof: true}, Slot: 20 * time.Second,
			Sequence: client.Sequence{Length: 4, Gap: 100 * time.Millisecond, Slot: time.Minute, Legacy: true},
		}, {
			Name: "web", Address: "[fd77::1]:443", Mode: "auth", KnockPort: 62201, Port: 443,
			Auth: Auth{Protocol: "v2", Hint: "route-hint", Buckets: []int{128, 192, 256, 384, 512}},
			Slot: 30 * time.Second, Sequence: client.Sequence{Length: 3, Gap: 80 * time.Millisecond, Slot: 30 * time.Second},
		}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got.Services, want.Services)
	}
}

func TestParseErrors(t *testing.T) {
	many := strings.Repeat("  - {name: a, address: \"10.0.0.1:1\"}\n", maxServices)
	for _, c := range []struct {
		name, text string
		line       int
		key, says  string
	}{
		{"unknown key", replaceInMinimal("client: alice", "cleint: alice"), 2, "", "did you mean client?"},
		{"no YAML", replaceInMinimal("client: alice", "client: [alice"), 2, "", "check the indentation"},
		{"empty", "", 1, "", "the file is empty"},
		{"another version", "version: 2\n" + minimal, 1, "version", "a newer knockgw"},
		{"no name", replaceInMinimal("profile: office\n", ""), 1, "profile", "is missing"},
		{"a name with a slash", replaceInMinimal("office", "../office"), 1, "profile", "is not a name"},
		{"a name with a dot first", replaceInMinimal("office", ".office"), 1, "profile", "starting with a letter"},
		{"a long name", replaceInMinimal("office", strings.Repeat("x", 65)), 1, "profile", "1 to 64"},
		{"a client with NUL", replaceInMinimal("alice", `"a\0b"`), 2, "client", "without NUL"},
		{"no secret", replaceInMinimal("secret: \""+secretHex+"\"\n", ""), 1, "secret", "is missing"},
		{"a short secret", replaceInMinimal(secretHex, "hex:00"), 3, "secret", "needs at least 16"},
		{"another server", "server: knockd\n" + minimal, 1, "server", "write knockgw or libknock"},
		{"no services", minimal[:strings.Index(minimal, "services")], 1, "services", "is missing"},
		{"an empty list", minimal[:strings.Index(minimal, "services")] + "services: []\n", 4, "services", "is an empty list"},
		{"many services", minimal + many, 5, "services", "at most 64"},
		{"one name twice", minimal + "  - {name: SSH, address: \"10.0.0.1:1\"}\n", 7, "services[1].name", "already the service of line 5"},
		{"no address", replaceInMinimal("    address: 10.77.0.1:22\n", ""), 5, "services[0].address", "is missing"},
		{"no port", replaceInMinimal("10.77.0.1:22", "10.77.0.1"), 6, "services[0].address", "a port is missing"},
		{"a bad prefix", replaceInMinimal("10.77.0.1:22", "10.77.0.1/24:22"), 6, "services[0].address", "write 10.77.0.0/24"},
		{"a bad host", replaceInMinimal("10.77.0.1:22", "a_b/:22"), 6, "services[0].address", "is not a prefix"},
		{"a bad mode", minimal + "    mode: open\n", 7, "services[0].mode", "write auth, knock or knock-auth"},
		{"a bad method", minimal + "    method: tcp-auth\n", 7, "services[0].method", "udp-v2"},
		{"a method in mode auth", minimal + "    mode: auth\n    method: udp\n", 8, "services[0].method", "mode auth uses no knocks"},
		{"a bad protocol", minimal + "    auth: {protocol: v3}\n", 7, "services[0].auth.protocol", "write v2 or v1"},
		{"a bad bucket", minimal + "    auth: {buckets: [100]}\n", 7, "services[0].auth.buckets[0]", "write 128"},
		{"long SYN sequence", minimal + "    method: tcp-syn-seq\n    sequence: {length: 6}\n", 8, "services[0].sequence.length", "from 2 to 5"},
		{"half a second", minimal + "    slot: 1500ms\n", 7, "services[0].slot", "whole seconds"},
		{"no gap", minimal + "    sequence: {gap: 0s}\n", 7, "services[0].sequence.gap", "from 1ms"},
		{"a port too many", minimal + "    knock_port: 65536\n", 7, "services[0].knock_port", "from 1 to 65535"},
		{"too large", minimal + strings.Repeat("#", maxFile), 0, "", "more than 65536 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("test.yaml", []byte(c.text))
			if err == nil {
				t.Fatal("no error")
			}
			var found bool
			for _, e := range listErrors(err) {
				found = found || e.Line == c.line && e.Key == c.key && strings.Contains(e.Msg, c.says)
			}
			if !found {
				t.Errorf("%v\nwant line %d, key %q, %q", err, c.line, c.key, c.says)
			}
			if strings.Contains(err.Error(), "30313233") {
				t.Errorf("the secret is in the error: %v", err)
			}
		})
	}
}

// listErrors returns the Errors that are joined in err.
func listErrors(err error) (all []*Error) {
	var one *Error
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			all = append(all, listErrors(e)...)
		}
	} else if errors.As(err, &one) {
		all = append(all, one)
	}
	return all
}

func TestParseReportsAllErrors(t *testing.T) {
	_, err := Parse("test.yaml", []byte(strings.NewReplacer("alice", "5", "ssh", "-ssh", "10.77", "10.777").Replace(minimal)))
	if got := listErrors(err); len(got) != 3 {
		t.Errorf("%d mistakes: %v", len(got), err)
	}
}

func TestProfileFormatHidesSecret(t *testing.T) {
	p := mustParse(t, fullProfile)
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		fmt.Fprintf(&out, verb+verb+verb, p, *p, struct{ P Profile }{*p})
	}
	if err := json.NewEncoder(&out).Encode(p); err != nil {
		t.Fatal(err)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "profile", p, "copy", *p)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "profile", p, "copy", *p)
	for _, leak := range []string{"0123456789", "303132", "48 49", "0x30", "MDEy"} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("%q is in the output:\n%s", leak, out.String())
		}
	}
	if !strings.Contains(out.String(), "office") {
		t.Errorf("the name is not in the output:\n%s", out.String())
	}
}
