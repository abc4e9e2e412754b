//go:build linux

package netns_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/knockgw/knockgw/test/netns/lab"
)

// A cliClient sits at a host and types commands: the built program's, for
// clients.
type cliClient struct {
	host       *lab.Host
	program    string
	id         string
	secret     string
	secretFile string
}

// newCLIClient makes a client on a host, with a file with its secret.
func newCLIClient(t *testing.T, h *lab.Host, id, secret string) cliClient {
	t.Helper()
	p := cliClient{host: h, program: program.get(t).Path, id: id, secret: secret,
		secretFile: filepath.Join(t.TempDir(), "secret")}
	if err := os.WriteFile(p.secretFile, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// at returns the same client on another host.
func (p cliClient) at(h *lab.Host) cliClient {
	p.host = h
	return p
}

// peer returns the client without the program.
func (p cliClient) peer() lab.Peer {
	return lab.Peer{Host: p.host, ID: p.id, Secret: []byte(p.secret), KnockPort: knockPort}
}

func (p cliClient) args(command string, target netip.AddrPort, flags []string) []string {
	return append([]string{command, target.String(), "--client", p.id, "--secret-file", p.secretFile}, flags...)
}

// knock runs "knockgw knock" and returns the session id that it prints.
func (p cliClient) knock(t *testing.T, target netip.AddrPort, flags ...string) []byte {
	t.Helper()
	out, err := p.host.Run(withTimeout(t, admitTime), p.program, p.args("knock", target, flags)...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	word, id, _ := strings.Cut(strings.TrimSpace(out), " ")
	session, err := hex.DecodeString(id)
	if word != "session" || err != nil {
		t.Fatalf("knock printed %q", out)
	}
	return session
}

// connect runs "knockgw connect", says a line and returns what came back.
func (p cliClient) connect(ctx context.Context, target netip.AddrPort, line string, flags ...string) (string, error) {
	cmd := p.host.Command(ctx, p.program, p.args("connect", target, flags)...)
	cmd.Stdin = strings.NewReader(line + "\n")
	return p.host.RunCommand(cmd)
}

// assertReaches fails the test unless "knockgw connect" with these flags gets
// the greeting of the endpoint's upstream.
func (p cliClient) assertReaches(t *testing.T, d endpoint, greeting string, flags ...string) {
	t.Helper()
	out, err := p.connect(withTimeout(t, 2*admitTime), d.listen, "bye", flags...)
	if err != nil || strings.TrimSpace(out) != greeting {
		t.Errorf("%s by %s: %v\n%s", d.name, p.id, err, out)
	}
}

// assertAdmitted fails the test unless the endpoint takes the person for a
// session that a knock has carried.
func (p cliClient) assertAdmitted(t *testing.T, d endpoint, session []byte, greeting string) {
	t.Helper()
	conn, err := d.enterAs(withTimeout(t, admitTime), p.peer(), session)
	if err != nil {
		t.Fatal(err)
	}
	if got := ask(t, conn, "hello"); got != greeting {
		t.Errorf("%s: the upstream answered %q", d.name, got)
	}
	closeConn(t, conn)
}

// assertRefused fails the test if one of the endpoints opens to the client,
// which tries them all at once.
func (p cliClient) assertRefused(t *testing.T, endpoints ...endpoint) {
	t.Helper()
	var trying sync.WaitGroup
	for _, d := range endpoints {
		trying.Go(func() { d.assertShut(t, p.peer(), nil) })
	}
	trying.Wait()
}

// clients is a configuration's list of clients that may use every service.
func clients(all ...cliClient) string {
	var b strings.Builder
	b.WriteString("clients:\n")
	for _, p := range all {
		fmt.Fprintf(&b, "  - {id: %s, secret: %q}\n", p.id, p.secret)
	}
	return b.String()
}
