//go:build linux

package bench_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/knockgw/knockgw/test/bench/load"
	"github.com/knockgw/knockgw/test/netns/lab"
)

// generatorTime is how long a generator may take to say that it is ready.
const generatorTime = time.Minute

// generator prepares a process that does a task on a host: this program again.
func generator(ctx context.Context, t *testing.T, h *lab.Host, task load.Task) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(task)
	if err != nil {
		t.Fatal(err)
	}
	cmd := h.Command(ctx, self, load.Name(task), string(text))
	cmd.Env = append(os.Environ(), loadVariable+"=1")
	return cmd
}

// generate does a task on a host to its end and reads its result.
func generate[R any](t *testing.T, h *lab.Host, task load.Task) (result R) {
	t.Helper()
	text, err := h.RunCommand(generator(t.Context(), t, h, task))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if err := json.Unmarshal([]byte(text), &result); err != nil {
		t.Fatalf("read the result of %s: %v\n%s", load.Name(task), err, text)
	}
	return result
}

// start starts a task on a host that ends with the test, and waits until it is
// ready.
func start(t *testing.T, h *lab.Host, task load.Task, devices ...*os.File) *lab.Process {
	t.Helper()
	cmd := generator(context.Background(), t, h, task)
	cmd.ExtraFiles = devices
	p := h.StartCommand(t, cmd)
	ctx, cancel := context.WithTimeout(t.Context(), generatorTime)
	defer cancel()
	if err := p.WaitLog(ctx, func(log string) bool { return strings.Contains(log, load.Ready) }); err != nil {
		t.Fatalf("%v\n%s", err, p.Log())
	}
	return p
}

// stop ends a task that was started and reads its result.
func stop[R any](t *testing.T, p *lab.Process) (result R) {
	t.Helper()
	p.Signal(unix.SIGTERM)
	ctx, cancel := context.WithTimeout(t.Context(), generatorTime)
	defer cancel()
	if code, err := p.Wait(ctx); err != nil || code != 0 {
		t.Fatalf("a generator ended with code %d, %v\n%s", code, err, p.Log())
	}
	_, text, _ := strings.Cut(p.Log(), load.Ready)
	if err := json.Unmarshal([]byte(text), &result); err != nil {
		t.Fatalf("read a generator's result: %v\n%s", err, text)
	}
	return result
}
