package gateway_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/audit"
)

func TestTheAuditSaysWhoWasInsideAndWhoWasNot(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.log")
	l := newLab(t, true, services(parrot(t))+"audit: {file: "+file+"}\n")
	home := homes[0]
	conn, err := l.visit(alice, home, modeKnockAuth)
	if err != nil {
		t.Fatal(err)
	}
	l.exchange(conn, 1<<12)
	to := target(home, modeKnock)
	l.datagram(home, to, knockFor(bob, to, newSession(), time.Now().Add(time.Hour)))
	l.datagram(home, to, knockFor(mallory, to, newSession(), time.Now())) // a stranger: not in it
	eventually(t, "everything is in it", func() bool {
		b, err := os.ReadFile(file)
		return err == nil && strings.Contains(string(b), `"session"`) && strings.Contains(string(b), `"refused"`)
	})
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	found := map[audit.Kind]audit.Event{}
	for line := range strings.Lines(string(b)) {
		var e audit.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if _, twice := found[e.Kind]; twice {
			t.Errorf("twice: %s", line)
		}
		found[e.Kind] = e
	}
	if s := found[audit.Session]; s.Client != "alice" || s.Received != 1<<12 || s.Sent != 1<<12 || s.Reason != "done" || s.Upstream == "" ||
		!strings.HasPrefix(s.Source, home.String()+":") || s.Service != serviceName(home, modeKnockAuth) || s.Seconds <= 0 {
		t.Errorf("%+v", s)
	}
	if k := found[audit.Knock]; k.Client != "alice" || k.Method != "udp" || k.Source != home.String() {
		t.Errorf("%+v", k)
	}
	if r := found[audit.Refused]; r.Client != "bob" || r.ClockDifference < 3590 || !strings.Contains(r.Reason, "clock") {
		t.Errorf("%+v", r)
	}
	if _, ok := found[audit.Start]; !ok {
		t.Errorf("no start: %s", b)
	}
	if strings.Contains(string(b), "long enough") {
		t.Error("there is a secret in it")
	}
}
