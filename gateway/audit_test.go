package gateway_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/gateway"
	"github.com/knockgw/knockgw/internal/audit"
	"github.com/knockgw/knockgw/internal/control"
)

// events reads the audit log of a gateway.
func events(t *testing.T, file string) (all []audit.Event) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var e audit.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, e)
	}
	return all
}

func TestAuditRecordsOperatorsAndBans(t *testing.T) {
	dir, err := os.MkdirTemp("", "knockgw-") // short enough for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	file, socket := filepath.Join(dir, "audit.log"), filepath.Join(dir, "control.sock")
	text := services(echoUpstream(t)) + "audit: {file: " + file + "}\ncontrol: {socket: " + socket + "}\nban: {after: 1, within: 1m, for: 1h}\n"
	mistake := errors.New("line 7: \x1b[2Jno such key")
	var wrong atomic.Bool
	var h *harness
	t.Run("at work", func(t *testing.T) {
		h = newHarness(t, true, text, func(o *gateway.Options) {
			o.Source = "/etc/knockgw.yaml"
			o.Load = func() (*config.Config, error) {
				if wrong.Load() {
					return nil, mistake
				}
				return parseConfig(t, aliceAndBob+"services:\n"+strings.ReplaceAll(text, "1h", "2h")), nil
			}
		})
		if _, err := h.connectAs(mallory, clientAddrs[0], modeAuth); err == nil {
			t.Error("mallory is in")
		}
		eventually(t, "the ban is in it", func() bool {
			return slices.ContainsFunc(events(t, file), func(e audit.Event) bool { return e.Kind == audit.Ban })
		})
		operate(t, h, &control.Client{Socket: socket}, &wrong)
	})
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	asked := fmt.Sprintf("%s (uid %s, pid %d)", me.Username, me.Uid, os.Getpid())
	home := clientAddrs[0]
	var got []audit.Event
	for _, e := range events(t, file) {
		if e.Kind == audit.Ban {
			if left := time.Until(e.Until); left < time.Minute || left > time.Hour || !strings.Contains(e.Reason, "1 failed authentications") {
				t.Errorf("%+v", e)
			}
			e.Until, e.Reason = time.Time{}, ""
		}
		if e.Kind == audit.Start && strings.Contains(e.Reason, `configuration "/etc/knockgw.yaml", `) {
			e.Reason = ""
		}
		if e.Kind == audit.Reload && strings.HasPrefix(e.Reason, "0 flows and 0 grants ended; ") {
			e.Reason = "done"
		}
		e.Time = time.Time{}
		got = append(got, e)
	}
	want := []audit.Event{
		{Kind: audit.Start},
		{Kind: audit.Ban, Source: home.String() + "/32", Service: serviceName(home, modeAuth)},
		{Kind: audit.Unban, Operator: asked, Source: home.String() + "/32", Reason: "1 bans"},
		{Kind: audit.Revoke, Operator: asked, Client: "bob", Reason: "0 flows, 0 grants"},
		{Kind: audit.Reload, Operator: asked, Reason: "done"},
		{Kind: audit.Reload, Operator: asked, Reason: "rejected: " + mistake.Error()},
		{Kind: audit.Reload, Operator: "the program itself (knockgw run: SIGHUP)", Reason: "rejected: " + mistake.Error()},
		{Kind: audit.Stop, Reason: "requested"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("it has\n%+v\nand should have\n%+v", got, want)
	}
}

// operate performs the actions of an operator, including failures.
func operate(t *testing.T, h *harness, c *control.Client, wrong *atomic.Bool) {
	t.Helper()
	home := clientAddrs[0]
	if done, err := c.Unban(t.Context(), netip.PrefixFrom(home, home.BitLen())); err != nil || done.Bans != 1 {
		t.Errorf("%+v were pardoned, %v", done, err)
	}
	if _, err := c.Revoke(t.Context(), control.Revocation{Client: "bob"}); err != nil {
		t.Error(err)
	}
	if _, err := c.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	wrong.Store(true)
	if _, err := c.Reload(t.Context()); err == nil {
		t.Error("a configuration with a mistake was taken")
	}
	if _, err := h.gw.ReloadFromSource(); err == nil {
		t.Error("a configuration with a mistake was taken")
	}
}

func TestAuditRecordsSessionsAndDenials(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.log")
	h := newHarness(t, true, services(echoUpstream(t))+"audit: {file: "+file+"}\n")
	home := clientAddrs[0]
	conn, err := h.connectAs(alice, home, modeKnockAuth)
	if err != nil {
		t.Fatal(err)
	}
	h.exchange(conn, 1<<12)
	to := target(home, modeKnock)
	h.datagram(home, to, knockFor(bob, to, newSession(), time.Now().Add(time.Hour)))
	h.datagram(home, to, knockFor(mallory, to, newSession(), time.Now())) // unauthorized: not recorded
	eventually(t, "everything is in it", func() bool {
		b, err := os.ReadFile(file)
		return err == nil && strings.Contains(string(b), `"session"`) && strings.Contains(string(b), `"denied"`)
	})
	found := map[audit.Kind]audit.Event{}
	for _, e := range events(t, file) {
		if _, twice := found[e.Kind]; twice {
			t.Errorf("twice: %+v", e)
		}
		found[e.Kind] = e
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if s := found[audit.Session]; s.Client != "alice" || s.Received != 1<<12 || s.Sent != 1<<12 || s.Reason != "done" || s.Upstream == "" ||
		!strings.HasPrefix(s.Source, home.String()+":") || s.Service != serviceName(home, modeKnockAuth) || s.Seconds < 0 {
		t.Errorf("%+v", s)
	}
	if k := found[audit.Knock]; k.Client != "alice" || k.Method != "udp" || k.Source != home.String() {
		t.Errorf("%+v", k)
	}
	if r := found[audit.Denied]; r.Client != "bob" || r.ClockDifference < 3590 || !strings.Contains(r.Reason, "clock") {
		t.Errorf("%+v", r)
	}
	if _, ok := found[audit.Start]; !ok {
		t.Errorf("no start: %s", b)
	}
	if strings.Contains(string(b), "long enough") {
		t.Error("there is a secret in it")
	}
}
