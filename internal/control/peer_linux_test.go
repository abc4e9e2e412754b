package control

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestAllowedPeersAllow(t *testing.T) {
	p := allowedPeers{own: 1001, group: 2001}
	for _, c := range []struct {
		name string
		peer *peer
		want bool
	}{
		{"root", &peer{}, true},
		{"the gateway's user", &peer{uid: 1001, gid: 1}, true},
		{"one of the group", &peer{uid: 1002, gid: 2001}, true},
		{"one remote was given the group", &peer{uid: 1002, gid: 1002, groups: []uint32{7, 2001}, groupsKnown: true}, true},
		{"one remote was given others", &peer{uid: 1002, gid: 1002, groups: []uint32{7}, groupsKnown: true}, false},
		{"another user", &peer{uid: 1002, gid: 1002}, false},
		{"unknown peer", nil, false},
	} {
		ctx := context.Background()
		if c.peer != nil {
			ctx = context.WithValue(ctx, peerKey{}, c.peer)
		}
		if err := p.allow(ctx); (err == nil) != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// testGroupsEnv makes this program connect to the socket that it names, and
// exit.
const testGroupsEnv = "KNOCKGW_TEST_GROUPS"

func TestPeerGroups(t *testing.T) {
	if socket := os.Getenv(testGroupsEnv); socket != "" {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give a process groups")
	}
	for _, n := range []int{1, initialGroups, initialGroups + 1, 300} {
		var groups []uint32
		for i := range n {
			groups = append(groups, uint32(50_000+i))
		}
		socket := tempSocket(t)
		s, err := Listen(socket)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), testGroupsEnv+"="+socket, "GORACE=atexit_sleep_ms=0")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Groups: groups}}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		c, err := s.listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		remote, err := peerOf(c)
		if err != nil || !remote.groupsKnown || !slices.Equal(slices.Sorted(slices.Values(remote.groups)), groups) {
			t.Errorf("%d groups: %+v, %v", n, remote, err)
		}
		_, _ = c.Close(), s.Close()
	}
}

// testDeniedEnv makes this program send a request to the socket that it names,
// and print the result.
const testDeniedEnv = "KNOCKGW_TEST_DENIED"

func TestClientPermissionDenied(t *testing.T) {
	if socket := os.Getenv(testDeniedEnv); socket != "" {
		_, err := (&Client{Socket: socket}).Status(t.Context())
		if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), socket) || !strings.Contains(err.Error(), "group") {
			t.Error(err)
		}
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, to switch the account")
	}
	const deniedID = 4711
	dir, err := os.MkdirTemp("", "knockgw-") // other accounts cannot traverse the parents of t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	s, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	program := filepath.Join(dir, "test") // executable by other accounts
	for _, open := range []func() error{
		func() error { return os.Chmod(dir, 0o755) },
		func() error { return copyFile(program, os.Args[0]) },
	} {
		if err := open(); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), program, "-test.run=^"+t.Name()+"$")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), testDeniedEnv+"="+socket, "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: deniedID, Gid: deniedID}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func copyFile(to, from string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o755)
}
