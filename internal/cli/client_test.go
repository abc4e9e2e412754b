package cli

import (
	"bytes"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
)

// newReplyGateway starts a control socket that gives every request the same
// reply, and writes a configuration that names it.
func newReplyGateway(t *testing.T, status int, body string) (path string, asked *atomic.Int32) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("needs unix sockets with paths")
	}
	dir := t.TempDir()
	path = filepath.Join(dir, "knockgw.yaml")
	text := "tun: {routes: [10.77.0.0/24]}\nclients_dir: clients.d\ncontrol: {socket: s}\nservices:\n" +
		`  - {name: ssh, listen: "10.77.0.1:22", upstream: "10.0.2.2:22"}` + "\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	asked = new(atomic.Int32)
	if status == 0 {
		return path, asked
	}
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Skip(err) // the path of the temporary directory may be too long
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.URL.Path == "/v1/reload" {
			asked.Add(1)
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-done })
	return path, asked
}

// runClientCommand runs a command line, and returns its output.
func runClientCommand(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := command()
	var out, errs bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(t.Context())
	return out.String(), errs.String(), err
}

func TestClientAddReloadsGateway(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		body   string
		says   string
	}{
		{"it does", http.StatusOK, `{"applied": true}`, "the running gateway has applied the change"},
		{"there is none", 0, "", "no gateway is running: start knockgw"},
		{"it is starting", http.StatusServiceUnavailable, `{"problems": ["starting"]}`, "run knockgw reload"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path, asked := newReplyGateway(t, c.status, c.body)
			for i, args := range [][]string{{"add", "alice"}, {"rotate", "alice"}, {"remove", "alice"}} {
				out, said, err := runClientCommand(t, append(append([]string{"client"}, args...), "--config", path)...)
				if err != nil || !strings.Contains(out+said, c.says) {
					t.Errorf("%s: %v\n%s", args[0], err, said)
				}
				if c.status != 0 && int(asked.Load()) != i+1 {
					t.Errorf("%s: it was asked %d times", args[0], asked.Load())
				}
			}
		})
	}
}

func TestClientAddUndoneIfGatewayRejects(t *testing.T) {
	path, _ := newReplyGateway(t, http.StatusUnprocessableEntity, `{"problems": ["knockgw.yaml:1: no"]}`)
	profile := filepath.Join(t.TempDir(), "alice.yaml")
	out, _, err := runClientCommand(t, "client", "add", "alice", "--config", path, "--out", profile)
	if err == nil || !strings.Contains(err.Error(), "knockgw.yaml:1: no") || out != "" {
		t.Errorf("the error is %v; printed %q", err, out)
	}
	for _, file := range []string{profile, filepath.Join(filepath.Dir(path), "clients.d", "alice.yaml")} {
		if _, err := os.Stat(file); !os.IsNotExist(err) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestClientRemoveKeptIfGatewayRejects(t *testing.T) {
	path, _ := newReplyGateway(t, http.StatusUnprocessableEntity, `{"problems": ["no"]}`)
	file := filepath.Join(filepath.Dir(path), "clients.d", "bob.yaml")
	if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("{id: bob, secret: 0123456789abcdef}"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err := runClientCommand(t, "client", "remove", "bob", "--config", path)
	if err == nil || !strings.Contains(err.Error(), "still accepts it") {
		t.Errorf("the error is %v", err)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("its file: %v", err)
	}
}
