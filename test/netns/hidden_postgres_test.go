//go:build linux

package netns_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/knockgw/knockgw/protocol"
	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	postgresBins   = "/usr/lib/postgresql/*/bin" // where Debian keeps the servers, a version each
	postgresPort   = 5432
	postgresSecret = "only in this lab"
	forwarded      = "127.0.0.1:15432"
	// queries is how many connections there are at once.
	queries = 12
)

// servePostgres starts a real PostgreSQL on a host, with a database for alice.
func servePostgres(t *testing.T, h *lab.Host) *lab.Process {
	t.Helper()
	bin := postgresBins
	if found, err := filepath.Glob(postgresBins); err == nil && len(found) > 0 {
		bin = found[len(found)-1]
	}
	lab.RequireTools(t, "psql", filepath.Join(bin, "initdb"), filepath.Join(bin, "postgres"))
	// It refuses to run as root, so the directory and its parents are
	// world-readable.
	dir, err := os.MkdirTemp("", "knockgw-postgres-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	password := write(t, dir, "password", "%s\n", postgresSecret)
	for _, path := range []string{dir, password} {
		if err := os.Chown(path, unprivilegedID, unprivilegedID); err != nil {
			t.Fatal(err)
		}
	}
	data := filepath.Join(dir, "data")
	account := &syscall.Credential{Uid: unprivilegedID, Gid: unprivilegedID}
	initdb := h.Command(withTimeout(t, serverTime), filepath.Join(bin, "initdb"), "-D", data, "-U", "alice", "-A", "scram-sha-256",
		"--pwfile", password, "--no-sync", "--locale", "C", "-E", "UTF8")
	initdb.Dir = dir
	initdb.SysProcAttr.Credential = account
	if out, err := h.RunCommand(initdb); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	rules := fmt.Sprintf("host all all %s/24 scram-sha-256\n", h.Addr4)
	if err := os.WriteFile(filepath.Join(data, "pg_hba.conf"), []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := h.Command(t.Context(), filepath.Join(bin, "postgres"), "-D", data, "-h", h.Addr4.String(),
		"-p", fmt.Sprint(postgresPort), "-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "log_statement=all")
	cmd.Dir = dir
	cmd.SysProcAttr.Credential = account
	p := h.StartCommand(t, cmd)
	t.Cleanup(func() { // an orderly end, so that it takes its shared memory with it
		p.Signal(syscall.SIGINT)
		<-p.Ended()
	})
	waitLog(t, p, serverTime, "ready to accept connections")
	return p
}

// psql starts queries over the forward, or whatever else is at the address.
func (h *hiddenService) psql(t *testing.T, at string, query ...string) *lab.Process {
	t.Helper()
	host, port, err := net.SplitHostPort(at)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-X", "-A", "-t", "-h", host, "-p", port, "-U", "alice", "-d", "postgres"}
	for _, q := range query {
		args = append(args, "-c", q)
	}
	cmd := h.command(t.Context(), "psql", args...)
	cmd.Env = append(cmd.Env, "PGPASSWORD="+postgresSecret, "PGCONNECT_TIMEOUT=20")
	return h.Client.StartCommand(t, cmd)
}

func TestHiddenPostgreSQLServesClients(t *testing.T) {
	t.Parallel()
	lab.RequireTools(t, "nmap")
	l := lab.New(t)
	server := servePostgres(t, l.Upstream)
	d := endpoint{name: "db", listen: netip.MustParseAddrPort("10.77.0.1:5432"),
		upstream: netip.AddrPortFrom(l.Upstream.Addr4, postgresPort).String()}
	h := hide(t, l, protocol.MethodUDP, d)
	h.filtered(t, d)
	forward := h.Client.StartCommand(t, h.command(t.Context(), "knockgw", "forward", "db", "--listen", forwarded))
	waitLog(t, forward, serverTime, forwarded)

	h.unseen(t, d, func() {
		var all []*lab.Process
		for i := range queries {
			// Each waits for the others: they are there at the same time, or
			// none ends.
			all = append(all, h.psql(t, forwarded, fmt.Sprintf("select 'connection ' || %d * 11", i), fmt.Sprintf(
				`do $$ begin loop exit when (select count(*) from pg_stat_activity where usename = 'alice') >= %d;
				perform pg_sleep(0.02); perform pg_stat_clear_snapshot(); end loop; perform pg_sleep(0.3); end $$`, queries)))
		}
		for i, p := range all {
			want := fmt.Sprintf("connection %d\n", i*11)
			if code, err := p.Wait(withTimeout(t, serverTime)); err != nil || code != 0 || !strings.Contains(p.Log(), want) {
				t.Errorf("psql number %d ended with %d, %v:\n%s", i, code, err, p.Log())
			}
		}
		big := h.psql(t, forwarded, "select sum(length(x)) from (select repeat(md5(i::text), 100) x from generate_series(1, 10000) i) t",
			"select repeat('a', 30000000)")
		if code, err := big.Wait(withTimeout(t, serverTime)); err != nil || code != 0 || !strings.Contains(big.Log(), "32000000\n") ||
			strings.Count(big.Log(), "a") < 30_000_000 {
			t.Errorf("30 MB of an answer: psql ended with %d, %v, and said %d bytes", code, err, len(big.Log()))
		}
		t.Run("pgx with a profile", func(t *testing.T) {
			cmd := h.command(withTimeout(t, serverTime), filepath.Join(buildExamples(t, h.Client), "postgres"), "-profile", h.file(),
				"-service", d.name, "-user", "alice", "select 'pgx says ' || count(*) from generate_series(1, 77)")
			cmd.Env = append(cmd.Env, "PGPASSWORD="+postgresSecret)
			if out, err := h.Client.RunCommand(cmd); err != nil || out != "pgx says 77\n" {
				t.Errorf("the example printed %q, %v", out, err)
			}
		})
	})
	drained(t, h, forward, server)
	h.filtered(t, d)
}

// drained fails the test unless a forward that is asked to end accepts no new
// connection, lets open ones finish, and ends.
func drained(t *testing.T, h *hiddenService, forward, server *lab.Process) {
	t.Helper()
	last := h.psql(t, forwarded, "select pg_sleep(2), 'the last answer'")
	waitLog(t, server, serverTime, "the last answer")
	forward.Signal(syscall.SIGTERM)
	refused := false
	for range 50 { // the signal takes its time
		p := h.psql(t, forwarded, "select 'too late'")
		if code, err := p.Wait(withTimeout(t, serverTime)); err != nil {
			t.Fatal(err)
		} else if refused = code != 0; refused {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if !refused {
		t.Error("a forward that was asked to end still takes connections")
	}
	if code, err := last.Wait(withTimeout(t, serverTime)); err != nil || code != 0 || !strings.Contains(last.Log(), "the last answer") {
		t.Errorf("the last psql ended with %d, %v:\n%s", code, err, last.Log())
	}
	if code, err := forward.Wait(withTimeout(t, serverTime)); err != nil || code != 0 {
		t.Errorf("the forward ended with %d, %v:\n%s", code, err, forward.Log())
	}
}
