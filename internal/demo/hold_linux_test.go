package demo

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/knockgw/knockgw/client/profile"
)

// lastLine is of what Hold prints.
const lastLine = "Ctrl-C"

// A watched output is read while it is written.
type watched struct {
	mu   sync.Mutex
	text strings.Builder
	done chan struct{} // closed with lastLine
}

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	had := strings.Contains(w.text.String(), lastLine)
	w.text.Write(b)
	if !had && strings.Contains(w.text.String(), lastLine) {
		close(w.done)
	}
	return len(b), nil
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

func TestHoldWritesProfilesAndCleansUp(t *testing.T) {
	alone(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out := &watched{done: make(chan struct{})}
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	ended := make(chan error, 1)
	go func() { ended <- Hold(ctx, Options{Out: out, Gateway: []string{self, gatewayWord}}) }()
	select {
	case <-out.done:
	case err := <-ended:
		t.Fatalf("it ended with %v\n%s", err, out)
	}
	for l := range strings.Lines(out.String()) {
		if len(strings.TrimSpace(l)) > 2*width {
			t.Errorf("%d columns: %s", len(l), l)
		}
	}
	found, err := filepath.Glob(filepath.Join(os.TempDir(), "*", profileName+".yaml"))
	if err != nil || len(found) != 1 {
		t.Fatalf("the profiles are %v, %v", found, err)
	}
	dir := profile.Directory(filepath.Dir(found[0]))
	all, err := dir.Load()
	if err != nil || len(all) != 2 {
		t.Errorf("there are %d profiles, %v", len(all), err)
	}
	for _, e := range examples() {
		if _, err := dir.Find(e.name); err != nil {
			t.Error(err)
		}
	}
	interrupt()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("an interrupt ended it with %v", err)
		}
	case <-time.After(TimeLimit):
		t.Error("an interrupt does not end it")
	}
}

func TestHoldInterruptedCleansUp(t *testing.T) {
	for _, after := range []time.Duration{0, 30 * time.Millisecond, 150 * time.Millisecond} {
		t.Run(after.String(), func(t *testing.T) {
			alone(t)
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			ctx, interrupt := context.WithTimeout(t.Context(), after)
			defer interrupt()
			if err := Hold(ctx, Options{Out: io.Discard, Gateway: []string{self, gatewayWord}}); err != nil &&
				!errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
	}
}

func TestHoldReportsGatewayExit(t *testing.T) {
	alone(t)
	err := Hold(t.Context(), Options{Out: io.Discard, Gateway: []string{"/bin/sh", "-c", "echo msg=ready; sleep 0.5; exit 3"}})
	if err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("the error is %v", err)
	}
}
