package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/gateway"
	"github.com/knockgw/knockgw/tun"
)

// gatewayWord, as the first argument, makes the test binary a gateway, with the
// configuration of the second.
const gatewayWord = "be-a-gateway"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == gatewayWord {
		if err := beGateway(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func beGateway(path string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	cfg, err := config.Load(path)
	if err != nil {
		return err
	}
	gw, err := gateway.New(cfg, gateway.Options{Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	return gw.Run(ctx)
}

// needLab skips the test where a lab may not be built.
func needLab(t *testing.T) {
	t.Helper()
	l, err := newLab(t.Context())
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, tun.ErrNoTUN):
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// demonstrate runs a demonstration whose gateway is this test binary.
func demonstrate(ctx context.Context) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	err = Run(ctx, Options{Out: &out, Gateway: []string{self, gatewayWord}})
	return out.String(), err
}

// alone skips the test where it cannot be run, gives it a directory for
// temporary files of its own, and fails it if something is left there.
func alone(t *testing.T) {
	t.Helper()
	needLab(t)
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Cleanup(func() {
		left, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
}

func TestRunTwiceConcurrently(t *testing.T) {
	alone(t)
	var all sync.WaitGroup
	defer all.Wait()
	for range 2 {
		all.Go(func() {
			out, err := demonstrate(t.Context())
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			for l := range strings.Lines(out) {
				if len(l)-1 > width {
					t.Errorf("%d columns: %s", len(l)-1, l)
				}
			}
			for _, step := range []string{"0. Control", "1. Before", "2. The client knocks", "3. During", "4. Replayed", "5. After", "6. The gateway's counters", "7. The gateway stops"} {
				if !strings.Contains(out, "\n"+step) {
					t.Errorf("there is no step %q", step)
				}
			}
		})
	}
}

func TestRunInterruptedCleansUp(t *testing.T) {
	for _, after := range []time.Duration{0, 30 * time.Millisecond, 300 * time.Millisecond, 1200 * time.Millisecond} {
		t.Run(after.String(), func(t *testing.T) {
			alone(t)
			ctx, cancel := context.WithCancelCause(t.Context())
			stop := time.AfterFunc(after, func() { cancel(errInterrupted) })
			defer stop.Stop()
			if out, err := demonstrate(ctx); !errors.Is(err, errInterrupted) {
				t.Errorf("%v, want %v\n%s", err, errInterrupted, out)
			}
		})
	}
}

var errInterrupted = errors.New("interrupted")

func TestRunShowsLogOfFailedGateway(t *testing.T) {
	alone(t)
	var out bytes.Buffer
	err := Run(t.Context(), Options{Out: &out, Gateway: []string{"/bin/sh", "-c", "echo no such luck >&2; exit 3"}})
	if err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("the error is %v", err)
	}
	if !strings.Contains(out.String(), "no such luck") {
		t.Errorf("the report does not show the log:\n%s", out.String())
	}
}
