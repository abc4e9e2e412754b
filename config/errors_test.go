package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// errorCase is a file and the expected error: line, key, and part of the
// message.
type errorCase struct {
	name   string
	text   string
	line   int
	key    string
	remedy string
}

// longFile is more lines than the parser tries one by one when it looks for the
// line with the syntax error.
const longFile = 1000

// Lines of minimal, for replacements.
const (
	tunLine     = "tun: {routes: [10.77.0.0/24]}"
	aliceLine   = "  - {id: alice, secret: 0123456789abcdef}"
	serviceLine = `  - {name: ssh, listen: "10.77.0.1:22", upstream: "10.0.2.2:2222"}`
)

// replaceInMinimal returns minimal with one replacement.
func replaceInMinimal(old, now string) string { return strings.Replace(minimal, old, now, 1) }

// withListen returns minimal with another listen, as YAML.
func withListen(text string) string { return replaceInMinimal(`"10.77.0.1:22"`, text) }

// withClientKeys returns minimal with keys added to its client.
func withClientKeys(keys string) string { return replaceInMinimal("id: alice", "id: alice, "+keys) }

// withSecrets returns minimal with a list of secrets for its client.
func withSecrets(list string) string {
	return replaceInMinimal("secret: 0123456789abcdef", "secrets: "+list)
}

// withUpstream returns minimal with another upstream, as YAML.
func withUpstream(text string) string { return replaceInMinimal(`"10.0.2.2:2222"`, text) }

// withLocal returns minimal with tun.local.
func withLocal(list string) string {
	return replaceInMinimal(tunLine, "tun: {routes: [10.77.0.0/24], local: ["+list+"]}")
}

// withSecret returns minimal with another secret, as YAML.
func withSecret(text string) string { return replaceInMinimal("0123456789abcdef", text) }

func errorCases() []errorCase {
	return slices.Concat(
		syntaxErrors(),
		keyErrors(),
		typeErrors(),
		tunErrors(),
		knockErrors(),
		clientErrors(),
		serviceErrors(),
		upstreamErrors(),
		modeErrors(),
		limitErrors(),
		endpointErrors(),
	)
}

// manyClients returns a file with n clients, one per line from line 3, followed
// by a service.
func manyClients(n int, keys string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "  - {id: c%d, secret: 0123456789abcdef}\n", i)
	}
	return strings.Replace(withService(keys), aliceLine+"\n", b.String(), 1)
}

func TestParseErrors(t *testing.T) {
	names := map[string]bool{}
	for _, m := range errorCases() {
		if names[m.name] {
			t.Errorf("two cases are called %q", m.name)
		}
		names[m.name] = true
		t.Run(m.name, func(t *testing.T) {
			_, err := Parse("test.yaml", []byte(m.text))
			if err == nil {
				t.Fatal("no error")
			}
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%T: %v", err, err)
			}
			text := err.Error()
			if strings.Count(text, "\n") != 0 {
				t.Errorf("more than one line:\n%s", text)
			}
			if e.Line != m.line || e.Key != m.key || !strings.Contains(e.Msg, m.remedy) {
				t.Errorf("%s\nwant line %d, key %q, %q", text, m.line, m.key, m.remedy)
			}
			for _, leak := range []string{"0123456789abcde", "hunter2", "12345678901234567", "!!!!"} {
				if strings.Contains(text, leak) || strings.Contains(fmt.Sprintf("%+v", errors.Unwrap(err)), leak) {
					t.Errorf("the secret is in the error: %s", text)
				}
			}
		})
	}
}

func TestErrorOneLine(t *testing.T) {
	_, err := Parse("knockgw.yaml", []byte(withListen("10.77.0.1")))
	want := `knockgw.yaml:5: services[0].listen: "10.77.0.1": a port is missing; write it as 10.77.0.1:22`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestParseErrorsSorted(t *testing.T) {
	text := `tun: {routes: [10.77.0.0/24], mtu: 1}
clients:
  - {id: alice, secret: short}
services:
  - {name: ssh, listen: 10.77.0.1, upstream: 10.0.2.2, idle: 5}
  - {name: ssh, listen: "10.77.0.2:1", upstream: "10.0.2.2:1"}
`
	_, err := Parse("test.yaml", []byte(text))
	if err == nil {
		t.Fatal("no error")
	}
	got := strings.Split(err.Error(), "\n")
	want := []string{"test.yaml:1: tun.mtu", "test.yaml:3: clients[0].secret", "test.yaml:5: services[0].listen",
		"test.yaml:5: services[0].upstream", "test.yaml:5: services[0].idle", "test.yaml:6: services[1].name"}
	if len(got) != len(want) {
		t.Fatalf("got %q", got)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]+": ") {
			t.Errorf("error %d is %q, want %q", i, got[i], want[i])
		}
	}
}

func TestParseInsecureSecretFile(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no permission bits")
	}
	name := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(name, []byte("0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o644} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
		_, err := Parse("test.yaml", []byte(replaceInMinimal("secret: 0123456789abcdef", "secret_file: "+name)))
		var e *Error
		if !errors.As(err, &e) || e.Line != 3 || !strings.Contains(e.Msg, "chmod 600 it") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
}

func TestCheckOverlapsThousandServices(t *testing.T) {
	var b strings.Builder
	b.WriteString("tun: {routes: [10.0.0.0/8]}\nservices:\n")
	const services = 3000
	for i := range services {
		fmt.Fprintf(&b, "  - {name: s%d, listen: \"10.1.%d.%d:22\", upstream: \"192.0.2.1:22\"}\n", i, i/256, i%256)
	}
	mustParse(t, b.String())
	b.WriteString("  - {name: all, listen: \"10.0.0.0/8:22\", upstream: \"192.0.2.1:22\"}\n")
	_, err := Parse("test.yaml", []byte(b.String()))
	if err == nil || strings.Count(err.Error(), "\n")+1 != services {
		t.Errorf("%d lines", strings.Count(fmt.Sprint(err), "\n")+1)
	}
}

func FuzzParse(f *testing.F) {
	full, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(full)
	f.Add([]byte(minimal))
	for _, m := range errorCases() {
		f.Add([]byte(m.text))
	}
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("tun: &t\n  name: *t\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("fuzz.yaml", data)
		if err == nil {
			if c == nil || len(c.Services) == 0 {
				t.Fatal("accepted, and nothing to protect")
			}
			c.Table()
			return
		}
		each := []error{err}
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			each = joined.Unwrap()
		}
		for _, err := range each {
			var e *Error
			if !errors.As(err, &e) || strings.Contains(e.Error(), "\n") || e.Msg == "" {
				t.Fatalf("%T %q", err, err)
			}
		}
	})
}
