package gateway_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/gateway"
	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/internal/tuntest"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// caller is an upstream that begins with its name and then says every line again.
func caller(t *testing.T, name string) string {
	t.Helper()
	return upstream(t, func(c net.Conn) {
		_, _ = io.WriteString(c, name+"\n")
		_, _ = io.Copy(c, c)
	})
}

// talk is a session with a caller.
type talk struct {
	*testing.T
	conn  *gonet.TCPConn
	lines *bufio.Reader
	name  string // the caller's
}

// talks begins a session of c's with the service at a port.
func (l *lab) talks(c *protocol.Client, home netip.Addr, port uint16) *talk {
	l.Helper()
	conn, err := l.visit(c, home, port)
	if err != nil {
		l.Fatalf("from %v to port %d: %v", home, port, err)
	}
	l.Cleanup(func() { _ = conn.Close() })
	t := &talk{T: l.T, conn: conn, lines: bufio.NewReader(conn)}
	t.name = t.hears()
	return t
}

func (t *talk) hears() string {
	t.Helper()
	_ = t.conn.SetReadDeadline(time.Now().Add(patience))
	line, err := t.lines.ReadString('\n')
	if err != nil {
		t.Fatalf("the session is over: %v", err)
	}
	return strings.TrimSpace(line)
}

// goesOn fails the test unless the session does.
func (t *talk) goesOn() {
	t.Helper()
	if _, err := t.conn.Write([]byte("and now\n")); err != nil {
		t.Fatalf("the session is over: %v", err)
	}
	if got := t.hears(); got != "and now" {
		t.Fatalf("%q came back", got)
	}
}

// isOver fails the test unless nothing but resets comes of the session any more.
func (l *lab) isOver(t *talk, home netip.Addr) {
	l.Helper()
	before := l.heardMore(home)
	_, _ = t.conn.Write([]byte("and now\n"))
	_ = t.conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := t.conn.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		l.Errorf("its client hears %v", err)
	}
	time.Sleep(hush)
	if n := l.heardMore(home) - before; n != 0 {
		l.Errorf("its client was sent %d packets besides the reset", n)
	}
}

// at is one service in the first home's family.
func at(name string, port uint16, mode, upstream string) string {
	return fmt.Sprintf("  - {name: %s, listen: \"10.77.0.1:%d\", upstream: %q, %s, auth: {deadline: 5s}}\n", name, port, upstream, mode)
}

const (
	asAuth      = "mode: auth"
	asKnock     = "mode: knock"
	asKnockAuth = "mode: knock-auth"
	asVisible   = "mode: knock-auth, visible: true"
)

// inEveryMode are four services before one upstream.
func inEveryMode(upstream string) string {
	return at("auth", modeAuth, asAuth, upstream) + at("knock", modeKnock, asKnock, upstream) +
		at("knock-auth", modeKnockAuth, asKnockAuth, upstream) + at("visible", modeVisible, asVisible, upstream)
}

// reload puts another configuration in force.
func (l *lab) reload(text string) config.Changes {
	l.Helper()
	changes, err := l.gw.Reload(configured(l.T, text))
	if err != nil {
		l.Fatalf("reload: %v", err)
	}
	return changes
}

func TestAReloadTakesNothingFromTheFlowsOfWhatDidNotChange(t *testing.T) {
	one, two := caller(t, "one"), caller(t, "two")
	l := newLab(t, true, inEveryMode(one))
	var all []*talk
	for port := uint16(modeAuth); port <= modeVisible; port++ {
		all = append(all, l.talks(alice, homes[0], port))
	}
	goOn := func() {
		t.Helper()
		for _, s := range all {
			s.goesOn()
		}
	}
	text := aliceAndBob + "services:\n" + inEveryMode(one)
	for name, text := range map[string]string{
		"nothing":          text,
		"a new service":    text + at("new", 5, asKnock, two),
		"a new client":     strings.Replace(text, "clients:\n", "clients:\n  - {id: carol, secret: carol whose secret is long}\n", 1),
		"without bob":      text[:strings.Index(text, "  - {id: bob")] + text[strings.Index(text, "services:"):],
		"another window":   text + "knock: {window: 20s, slot: 40s}\n",
		"limits and bans":  text + "limits: {flows_per_client: 10}\nban: {after: 3}\n",
		"another upstream": strings.ReplaceAll(text, one, two),
	} {
		l.reload(text)
		goOn()
		want := "one"
		if name == "another upstream" {
			want = "two"
		}
		for port := uint16(modeAuth); port <= modeVisible; port++ {
			s := l.talks(alice, homes[0], port)
			if s.name != want {
				t.Errorf("%s: a new session is with upstream %s, want %s", name, s.name, want)
			}
			_ = s.conn.Close()
		}
	}
	goOn()
}

func TestFlowsOfWhatIsGoneAreResetAndTheOthersGoOn(t *testing.T) {
	up := caller(t, "up")
	text := aliceAndBob + "services:\n" + inEveryMode(up)
	bobIs := strings.Index(text, "  - {id: bob")
	for name, c := range map[string]struct {
		text string
		over []uint16 // the ports where bob's session is over
	}{
		"the client":     {text[:bobIs] + text[strings.Index(text, "services:"):], []uint16{1, 2, 3, 4}},
		"the secret":     {strings.Replace(text, "bob, whose", "bob, whose new", 1), []uint16{1, 2, 3, 4}},
		"permissions":    {strings.Replace(text, "{id: bob,", "{id: bob, services: [knock, auth],", 1), []uint16{3, 4}},
		"a second key":   {strings.Replace(text, "secret: \"bob, whose secret is long enough\"", "secrets: [{secret: \"bob, whose new secret is long\"}, {secret: \"bob, whose secret is long enough\"}]", 1), nil},
		"another's key":  {strings.Replace(text, "alice, whose", "alice, whose new", 1), nil},
		"services moved": {strings.NewReplacer("0.1:1\"", "0.1:11\"", "0.1:2\"", "0.1:12\"").Replace(text), []uint16{1, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, true, inEveryMode(up))
			var bobs []*talk
			for port := uint16(modeAuth); port <= modeVisible; port++ {
				bobs = append(bobs, l.talks(bob, homes[1], port))
			}
			before := time.Now()
			l.reload(c.text)
			if took := time.Since(before); took > time.Second {
				t.Errorf("the reload took %v", took)
			}
			for i, s := range bobs {
				over := false
				for _, port := range c.over {
					over = over || int(port) == i+1
				}
				if over {
					l.isOver(s, homes[1])
				} else {
					s.goesOn()
				}
			}
		})
	}
}

func TestAServiceThatWasAddedIsReachedAndOneThatWasRemovedIsSilent(t *testing.T) {
	up := caller(t, "up")
	l := newLab(t, true, at("first", 9, asKnock, up))
	for _, mode := range []struct {
		port uint16
		as   string
	}{{modeAuth, asAuth}, {modeKnock, asKnock}, {modeKnockAuth, asKnockAuth}, {modeVisible, asVisible}} {
		with := aliceAndBob + "services:\n" + at("first", 9, asKnock, up) + at("new", mode.port, mode.as, up)
		changes := l.reload(with)
		if want := []string{"new"}; !reflect.DeepEqual(changes.Services.Added, want) || !reflect.DeepEqual(changes.Services, config.Difference{Added: want}) {
			t.Errorf("%s: changes %+v", mode.as, changes)
		}
		s := l.talks(alice, homes[0], mode.port)
		s.goesOn()
		changes = l.reload(aliceAndBob + "services:\n" + at("first", 9, asKnock, up))
		if !reflect.DeepEqual(changes.Services.Removed, []string{"new"}) {
			t.Errorf("%s: changes %+v", mode.as, changes)
		}
		l.isOver(s, homes[0])
		// Strangers and those who knew it.
		stranger := netip.MustParseAddr("198.51.100.7")
		for flags := range 64 {
			b := packettest.TCP{Src: netip.AddrPortFrom(stranger, 40000), Dst: target(stranger, mode.port), Flags: uint8(flags), Seq: 1, Ack: 2}.Packet()
			if err := l.wire.Write(packet.Offload{}, [][]byte{b}); err != nil {
				t.Fatal(err)
			}
		}
		before := l.heard(homes[1])
		to := target(homes[1], mode.port)
		l.datagram(homes[1], to, knockFor(alice, to, nil, time.Now()))
		if conn, err := l.dial(homes[1], to, hush); err == nil {
			t.Errorf("%s: it is reached after it was removed", mode.as)
			_ = conn.Close()
		}
		if l.heard(stranger) != 0 || l.heard(homes[1]) != before {
			t.Errorf("%s: a removed service answers", mode.as)
		}
	}
}

// A service that is closed and opened again, with a session that lasts over it.
func TestAServiceMayOpenAndHideWhileItsFlowsGoOn(t *testing.T) {
	up := caller(t, "up")
	l := newLab(t, true, at("door", modeVisible, asVisible, up))
	sessions := []*talk{l.talks(alice, homes[0], modeVisible)}
	stranger := netip.MustParseAddr("198.51.100.7")
	for i := range 4 {
		as, answers := asVisible, 1
		if i%2 == 0 {
			as, answers = asKnockAuth, 0
		}
		l.reload(aliceAndBob + "services:\n" + at("door", modeVisible, as, up))
		before := l.heard(stranger)
		syn := packettest.SYN(netip.AddrPortFrom(stranger, uint16(40000+i)), target(stranger, modeVisible), 1)
		if err := l.wire.Write(packet.Offload{}, [][]byte{syn}); err != nil {
			t.Fatal(err)
		}
		sessions = append(sessions, l.talks(alice, homes[0], modeVisible)) // behind the SYN
		if got := l.heard(stranger) - before; got < answers || answers == 0 && got > 0 {
			t.Errorf("%s: a stranger's SYN has %d answers, want %d", as, got, answers)
		}
		for _, s := range sessions {
			s.goesOn()
		}
	}
}

func TestAReloadThatIsRefusedChangesNothing(t *testing.T) {
	up := caller(t, "up")
	registry := prometheus.NewRegistry()
	words := errors.Join(&config.Error{File: "f.yaml", Line: 3, Msg: "one"}, &config.Error{File: "f.yaml", Line: 9, Msg: "two"})
	next := func() (*config.Config, error) { return nil, words }
	var log logged
	l := newLab(t, true, inEveryMode(up), func(o *gateway.Options) {
		o.Registry, o.Log, o.Load = registry, log.logger(), func() (*config.Config, error) { return next() }
	})
	s := l.talks(alice, homes[0], modeKnock)
	for range 2 {
		if _, err := l.gw.ReloadFromSource(); !errors.Is(err, words) {
			t.Errorf("%v", err)
		}
	}
	s.goesOn()
	l.talks(alice, homes[0], modeKnockAuth).goesOn()
	want := map[string]float64{
		"knockgw_config_last_reload_successful": 0, "knockgw_config_reloads_total{rejected}": 2, "knockgw_config_reloads_total{ok}": 0,
	}
	read(t, registry, want)
	for _, line := range []string{"f.yaml:3: one", "f.yaml:9: two"} {
		if !log.has(line) {
			t.Errorf("the log has no %q", line)
		}
	}
	next = func() (*config.Config, error) {
		return configured(t, aliceAndBob+"services:\n"+inEveryMode(up)+at("new", 5, asKnock, up)), nil
	}
	changes, cfg, err := l.gw.DryRun()
	if err != nil || len(cfg.Services) != 5 || !reflect.DeepEqual(changes.Services.Added, []string{"new"}) {
		t.Errorf("rehearsed: %+v, %v", changes, err)
	}
	read(t, registry, want)
	if _, err := l.gw.ReloadFromSource(); err != nil {
		t.Error(err)
	}
	read(t, registry, map[string]float64{
		"knockgw_config_last_reload_successful": 1, "knockgw_config_reloads_total{rejected}": 2, "knockgw_config_reloads_total{ok}": 1,
	})
	s.goesOn()
}

// read wants metrics to be so: by name and the value of the label, if there is one.
func read(t *testing.T, r *prometheus.Registry, want map[string]float64) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			if l := m.GetLabel(); len(l) > 0 {
				name += "{" + l[0].GetValue() + "}"
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	for name, v := range want {
		if n, ok := got[name]; !ok || n != v {
			t.Errorf("%s is %v, %v, want %v", name, n, ok, v)
		}
	}
}

func TestKeysThatWaitForARestartStayAsTheyAreAndAreNamedEachTime(t *testing.T) {
	up := caller(t, "up")
	l := newLab(t, true, at("knock", modeKnock, asKnock, up))
	s := l.talks(alice, homes[0], modeKnock)
	text := aliceAndBob + "services:\n" + at("knock", modeKnock, asKnock, up) + at("new", 5, asKnockAuth, up) +
		"state: {dir: /nowhere}\nlimits: {flows: 1, knocks: 64}\n"
	for i := range 2 {
		changes := l.reload(text)
		if want := []string{"limits.flows", "limits.knocks", "state.dir"}; !reflect.DeepEqual(changes.PendingRestart, want) {
			t.Errorf("these wait for a restart: %q, want %q", changes.PendingRestart, want)
		}
		if added := len(changes.Services.Added); added != 1-i {
			t.Errorf("reload %d: %d services were added", i, added)
		}
	}
	s.goesOn()
	l.talks(alice, homes[0], 5).goesOn()
}

func TestAGatewayThatDoesNotRunIsNotReloaded(t *testing.T) {
	cfg := configured(t, aliceAndBob+"services:\n"+embedded)
	device, _ := tuntest.Pair(testMTU, true)
	var log logged
	registry := prometheus.NewRegistry()
	gw, err := gateway.New(cfg, gateway.Options{Device: device, Log: log.logger(), Registry: registry})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gw.Reload(cfg); !errors.Is(err, gateway.ErrNotRunning) {
		t.Errorf("before Run: %v", err)
	}
	read(t, registry, map[string]float64{"knockgw_config_reloads_total{rejected}": 0, "knockgw_config_reloads_total{ok}": 0})
	if log.has("refused") || !log.has("starting or stopping") {
		t.Error("the log calls that a configuration that was refused")
	}
	l := newLab(t, true, embedded)
	l.stop()
	err = <-l.done
	l.done <- err
	if _, err := l.gw.Reload(cfg); !errors.Is(err, gateway.ErrNotRunning) {
		t.Errorf("after Run: %v", err)
	}
}

func TestListenersComeAndGoWithTheirServices(t *testing.T) {
	l := newLab(t, true, embedded)
	quiet, err := l.gw.Listener("quiet")
	if err != nil {
		t.Fatal(err)
	}
	api, err := l.gw.Listener("api")
	if err != nil {
		t.Fatal(err)
	}
	l.reload(aliceAndBob + `services:
  - {name: quiet, listen: "10.77.0.1:2", mode: knock, idle: 1m}
  - {name: new, listen: "10.77.0.1:9", mode: knock-auth}
`)
	if _, err := api.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener of a removed service: %v", err)
	}
	if _, err := l.gw.Listener("api"); err == nil {
		t.Error("a removed service has a listener")
	}
	fresh, err := l.gw.Listener("new")
	if err != nil {
		t.Fatal(err)
	}
	for port, ln := range map[uint16]net.Listener{2: quiet, 9: fresh} {
		conn, err := l.visit(alice, homes[0], port)
		if err != nil {
			t.Fatal(err)
		}
		c, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		_ = conn.Close()
	}
}
