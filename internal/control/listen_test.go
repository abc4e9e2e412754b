package control

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

func TestErrNotRunning(t *testing.T) {
	socket := tempSocket(t)
	c := &Client{Socket: socket}
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("no socket: %v", err)
	}
	leaveBehind(t, socket)
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("a dead process's socket: %v", err)
	}
	if _, err := (&Client{}).Status(t.Context()); err == nil || !strings.Contains(err.Error(), "control.socket") {
		t.Errorf("no path: %v", err)
	}
}

func TestListenReplacesStaleSocket(t *testing.T) {
	socket := tempSocket(t)
	leaveBehind(t, socket)
	s, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
}

func TestListenConcurrentlyOnStaleSocket(t *testing.T) {
	for range 50 {
		socket := tempSocket(t)
		leaveBehind(t, socket)
		var wg sync.WaitGroup
		servers, errs := make([]*Server, 4), make([]error, 4)
		for i := range servers {
			wg.Go(func() { servers[i], errs[i] = Listen(socket) })
		}
		wg.Wait()
		had := 0
		for i, s := range servers {
			if s != nil {
				had++
				_ = s.Close()
			} else if !errors.Is(errs[i], ErrInUse) {
				t.Error(errs[i])
			}
		}
		if had != 1 {
			t.Fatalf("%d have it", had)
		}
	}
}

func TestListenErrInUse(t *testing.T) {
	c := serve(t, &fakeGateway{})
	if _, err := Listen(c.Socket); !errors.Is(err, ErrInUse) {
		t.Errorf("%v", err)
	}
	if _, err := c.Status(t.Context()); err != nil {
		t.Errorf("the first does not answer any more: %v", err)
	}
}

func TestListenKeepsOtherFiles(t *testing.T) {
	socket := tempSocket(t)
	if err := os.MkdirAll(filepath.Dir(socket), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(socket, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(socket); err == nil {
		t.Error("it listens")
	}
	if b, _ := os.ReadFile(socket); string(b) != "precious" {
		t.Error("the file is gone")
	}
}

func TestListenSocketMode(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no modes")
	}
	c := serve(t, &fakeGateway{})
	for path, want := range map[string]fs.FileMode{c.Socket: 0o660, filepath.Dir(c.Socket): 0o750} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got&^want != 0 {
			t.Errorf("%s has mode %04o, not %04o", path, got, want)
		}
	}
}
