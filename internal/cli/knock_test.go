package cli

import (
	"fmt"
	"strings"
	"testing"
)

func TestKnockHasNoTimeout(t *testing.T) {
	g := newGate(t, echo)
	secret := secretFile(t, aliceSecret)
	who := []string{g.addr, "--client", "alice", "--secret-file", secret, "--port", fmt.Sprint(g.port), "--udp-port", fmt.Sprint(g.knockPort)}
	if _, _, err := runCommandLine(t, nil, append([]string{"knock"}, who...)...); err != nil {
		t.Error(err)
	}
	if _, _, err := runCommandLine(t, nil, append([]string{"connect", "--timeout", "0"}, who...)...); exitCode(err) != exitUsage {
		t.Errorf("connect without time: %v", err)
	}
}

func TestKnockPrintsSession(t *testing.T) {
	g := newGate(t, echo)
	profiles(t, g.profile("lab", "echo"))
	out, _, err := runCommandLine(t, nil, "knock", "echo")
	session, ok := strings.CutPrefix(strings.TrimSpace(out), "session ")
	if err != nil || !ok || len(session) != 32 {
		t.Fatalf("%q, %v", out, err)
	}
	again, _, err := runCommandLine(t, nil, "knock", "echo", "--session", session)
	if err != nil || again != out {
		t.Errorf("%q, %v", again, err)
	}
}
