//go:build unix

package cli

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// signalTestEnv makes the test program wait for signals.
const signalTestEnv = "KNOCKGW_TEST_SIGNALLED"

func TestNotifyContextSignals(t *testing.T) {
	if os.Getenv(signalTestEnv) != "" {
		ctx, stop := notifyContext()
		defer stop()
		_, _ = os.Stdout.WriteString("ready\n")
		<-ctx.Done()
		_, _ = os.Stdout.WriteString("ending\n")
		time.Sleep(time.Minute) // an end that takes its time
		return
	}
	p := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
	p.Env = append(os.Environ(), signalTestEnv+"=1")
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, len("ready\n"))
	if _, err := out.Read(line); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		_ = p.Process.Signal(syscall.SIGTERM)
	}
	if _, err := out.Read(make([]byte, len("ending\n"))); err != nil {
		t.Fatalf("it was killed by signals that came at once: %v, %v", err, p.Wait())
	}
	time.Sleep(signalGrace / 4)
	_ = p.Process.Signal(syscall.SIGINT)
	ended := make(chan error, 1)
	go func() { ended <- p.Wait() }()
	select {
	case <-ended:
		t.Fatal("it was killed within the time in which signals are one")
	case <-time.After(2 * signalGrace):
	}
	_ = p.Process.Signal(syscall.SIGTERM)
	<-ended
	status, ok := p.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() || status.Signal() != syscall.SIGTERM {
		t.Errorf("it ended with %v", p.ProcessState)
	}
}
