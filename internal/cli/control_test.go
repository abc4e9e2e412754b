package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/internal/control"
)

func TestTheGatewayIsFoundByItsSocketWhateverBecameOfItsFile(t *testing.T) {
	g := newOperated(t)
	socket := filepath.Join(filepath.Dir(g.config), "s")
	for _, line := range []string{
		"status", "flows", "grants", "clients", "bans", "bans remove 10.0.0.0/8", "revoke --all", "reload", "reload --dry-run",
		"trace --from 10.1.1.2", "capture -o -",
	} {
		args := append(strings.Fields(line), "--config", "gone.yaml")
		if out, _, err := perform(t, nil, append(args, "--socket", socket)...); err != nil || out == "" {
			t.Errorf("%s: %q, %v", line, out, err)
		}
		_, _, err := perform(t, nil, args...)
		var said bytes.Buffer
		report(&said, err)
		if exitCode(err) != exitConfiguration || !strings.Contains(said.String(), "--socket") || !strings.HasPrefix(said.String(), "gone.yaml: ") {
			t.Errorf("%s without it: %s", line, said.String())
		}
	}
	out, _, err := perform(t, nil, "check", "--config", g.config, "--socket", socket)
	if err != nil || !strings.Contains(out, "A reload would change") {
		t.Errorf("check: %s %v", out, err)
	}
	_, _, err = perform(t, nil, "status", "--socket", socket+"2")
	var said bytes.Buffer
	report(&said, err)
	if want := "knockgw: no gateway is running at " + socket + "2; use --socket if its socket is elsewhere\n"; said.String() != want {
		t.Errorf("%s", said.String())
	}
}

func TestAnErrorWithTheWordsOfOthersIsNoMoreThanText(t *testing.T) {
	var said bytes.Buffer
	report(&said, errors.Join(errors.New("malformed \x1b[2J"), &control.RefusedError{Problems: []string{"one \u009b1m", "two"}}))
	if want := "knockgw: malformed \\x1b[2J\none \\u009b1m\ntwo\n"; said.String() != want {
		t.Errorf("%q", said.String())
	}
}

func TestWhoWatchesWaitsForTheGateway(t *testing.T) {
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
