package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/internal/control"
)

func TestStatusWatchWaitsForGateway(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	cmd := &cobra.Command{}
	cmd.SetContext(ctx)
	var out, errs bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	gone := fmt.Errorf("%w at s", control.ErrNotRunning)
	answers := []error{nil, gone, gone, nil, gone, nil}
	w := follower{every: time.Millisecond, inPlace: true, ask: func() error {
		err := answers[0]
		if answers = answers[1:]; len(answers) == 0 {
			interrupt()
		}
		return err
	}}
	if err := w.run(cmd); err != nil || len(answers) > 0 {
		t.Errorf("%v, %d answers to come", err, len(answers))
	}
	if want := strings.Repeat("knockgw: no gateway is running at s; waiting for it\n", 2); errs.String() != want {
		t.Errorf("%s", errs.String())
	}
	answers = []error{gone}
	cmd.SetContext(t.Context())
	if err := w.run(cmd); !errors.Is(err, control.ErrNotRunning) {
		t.Errorf("where there is none at first: %v", err)
	}
}

func TestStatusWatchJSON(t *testing.T) {
	g := newFakeGateway(t)
	r, w := io.Pipe()
	cmd := command()
	cmd.SetArgs([]string{"status", "--watch", "-o", "json", "--config", g.config})
	cmd.SetOut(w)
	ctx, interrupt := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- cmd.ExecuteContext(ctx) }()
	line := make([]byte, 4096)
	n, err := r.Read(line)
	if err != nil || bytes.Count(line[:n], []byte("\n")) != 1 || !json.Valid(line[:n]) {
		t.Errorf("%q, %v", line[:n], err)
	}
	interrupt()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
