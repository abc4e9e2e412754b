//go:build linux

package netns_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/knockgw/knockgw/test/netns/lab"
)

// taskVariable names what this program does instead of its tests: client.Dialer
// makes goroutines and sockets as it likes, and a namespace is a thread's, so a
// program that dials from a host of the lab is a process there.
const taskVariable = "KNOCKGW_NETNS_TASK"

// A task is a program around package client. It is done with what it is told in
// JSON, and says what came of it.
type task interface {
	do(ctx context.Context) (result any, err error)
}

// tasks has a new one of each task.
func tasks() map[string]task {
	all := make(map[string]task)
	for _, t := range []task{new(fetching), new(visiting)} {
		all[taskName(t)] = t
	}
	return all
}

func taskName(t task) string { return fmt.Sprintf("%T", t) }

// doTask does the task of the name, which standard input has the rest of, and
// returns the exit code. A task that leaves a goroutine behind has failed.
func doTask(name string) int {
	t, ok := tasks()[name]
	err := json.NewDecoder(os.Stdin).Decode(t)
	if !ok {
		err = fmt.Errorf("there is no task %q", name)
	}
	var result any
	if err == nil {
		result, err = t.do(context.Background())
	}
	if err == nil {
		err = goleak.Find()
	}
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(result)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// done does a task in a process on a host and returns what came of it.
func done[R any](ctx context.Context, t *testing.T, h *lab.Host, what task) (result R) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(what)
	if err != nil {
		t.Fatal(err)
	}
	cmd := h.Command(ctx, self)
	cmd.Env = append(os.Environ(), taskVariable+"="+taskName(what))
	cmd.Stdin = bytes.NewReader(text)
	out, err := h.RunCommand(cmd)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		t.Fatalf("read the result of %s: %v\n%s", taskName(what), err, out)
	}
	return result
}
