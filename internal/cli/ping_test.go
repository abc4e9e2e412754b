package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/knockgw/knockgw/client"
)

func TestPingReport(t *testing.T) {
	g := newGate(t, echo)
	profiles(t, g.profile("lab", "echo"))
	out, _, err := runCommandLine(t, nil, "ping", "echo", "-c", "2", "--interval", "1ms")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"lab/echo at " + g.addr, "1: resolve ", "knock ", "connect ", "authenticate ", "2 of 2 succeeded; min "} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	out, _, err = runCommandLine(t, nil, "ping", "echo", "-c", "2", "--interval", "1ms", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var report pingReport
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&report); err != nil {
		t.Fatal(err)
	}
	if report.Succeeded != 2 || len(report.Attempts) != 2 || report.Median <= 0 || report.Min > report.Max ||
		report.Attempts[1].Authenticate <= 0 || report.Attempts[1].Remote != g.addr {
		t.Errorf("%+v", report)
	}
}

func TestPingNamesFailedStep(t *testing.T) {
	g := newGate(t, echo)
	profiles(t, g.profile("lab", "echo"))
	wrong := secretFile(t, "another secret, of thirty-two b.")
	out, _, err := runCommandLine(t, nil, "ping", "echo", "-c", "1", "--no-knock", "--secret-file", wrong)
	if exitCode(err) != exitAuthenticate || !strings.Contains(out, "1: failed after ") || !strings.Contains(out, "authenticate: ") ||
		!strings.Contains(out, "0 of 1 succeeded") {
		t.Errorf("%v\n%s", err, out)
	}
	out, _, err = runCommandLine(t, nil, "ping", "echo", "-c", "1", "--no-knock", "--secret-file", wrong, "-o", "json")
	var report pingReport
	if bad := json.Unmarshal([]byte(out), &report); bad != nil || exitCode(err) != exitAuthenticate {
		t.Fatal(bad, err)
	}
	if report.Succeeded != 0 || report.Attempts[0].Step != "authenticate" || report.Attempts[0].Error == "" {
		t.Errorf("%+v", report)
	}
}

func TestPingInterrupted(t *testing.T) {
	g := newGate(t, echo)
	profiles(t, g.profile("lab", "echo"))
	found, err := targetOf(t, "echo")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var out bytes.Buffer
	tell := func(format string, args ...any) {
		fmt.Fprintf(&out, format+"\n", args...)
		if strings.HasPrefix(out.String(), "1: ") || strings.Contains(out.String(), "\n1: ") {
			cancel()
		}
	}
	if err := ping(ctx, pinger{target: found, count: 3, interval: time.Hour, printf: tell, errs: io.Discard}); err != nil {
		t.Error(err)
	}
	if !strings.Contains(out.String(), "1 of 1 succeeded") {
		t.Errorf("%s", &out)
	}
}

func TestPingStopsWithoutAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		began := time.Now()
		err := ping(t.Context(), pinger{target: silentTarget(t), count: 3, interval: time.Second,
			printf: func(string, ...any) {}, errs: &said})
		if exitCode(err) != exitConnect || time.Since(began) != client.DefaultTimeout {
			t.Errorf("it took %v: %v", time.Since(began), err)
		}
	})
}
