package gateway_test

import (
	"errors"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/gateway"
	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/internal/tuntest"
	"github.com/knockgw/knockgw/packet"
)

func TestReloadKeepsUnchangedFlows(t *testing.T) {
	one, two := caller(t, "one"), caller(t, "two")
	h := newHarness(t, true, allModes(one))
	var all []*session
	for port := uint16(modeAuth); port <= modeVisible; port++ {
		all = append(all, h.open(alice, clientAddrs[0], port))
	}
	goOn := func() {
		t.Helper()
		for _, s := range all {
			s.assertAlive()
		}
	}
	text := aliceAndBob + "services:\n" + allModes(one)
	for name, text := range map[string]string{
		"nothing":          text,
		"a new service":    text + at("new", 5, asKnock, two),
		"a new client":     strings.Replace(text, "clients:\n", "clients:\n  - {id: carol, secret: carol whose secret is long}\n", 1),
		"without bob":      text[:strings.Index(text, "  - {id: bob")] + text[strings.Index(text, "services:"):],
		"another window":   text + "knock: {window: 20s, slot: 40s}\n",
		"limits and bans":  text + "limits: {flows_per_client: 10}\nban: {after: 3}\n",
		"another upstream": strings.ReplaceAll(text, one, two),
	} {
		h.reload(text)
		goOn()
		want := "one"
		if name == "another upstream" {
			want = "two"
		}
		for port := uint16(modeAuth); port <= modeVisible; port++ {
			s := h.open(alice, clientAddrs[0], port)
			if s.name != want {
				t.Errorf("%s: a new session is with upstream %s, want %s", name, s.name, want)
			}
			_ = s.conn.Close()
		}
	}
	goOn()
}

func TestReloadResetsRevokedFlows(t *testing.T) {
	up := caller(t, "up")
	text := aliceAndBob + "services:\n" + allModes(up)
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
			h := newHarness(t, true, allModes(up))
			var bobs []*session
			for port := uint16(modeAuth); port <= modeVisible; port++ {
				bobs = append(bobs, h.open(bob, clientAddrs[1], port))
			}
			before := time.Now()
			h.reload(c.text)
			if took := time.Since(before); took > time.Second {
				t.Errorf("the reload took %v", took)
			}
			for i, s := range bobs {
				over := false
				for _, port := range c.over {
					over = over || int(port) == i+1
				}
				if over {
					h.assertReset(s, clientAddrs[1])
				} else {
					s.assertAlive()
				}
			}
		})
	}
}

func TestReloadAddsAndRemovesServices(t *testing.T) {
	up := caller(t, "up")
	h := newHarness(t, true, at("first", 9, asKnock, up))
	for _, mode := range []struct {
		port uint16
		as   string
	}{{modeAuth, asAuth}, {modeKnock, asKnock}, {modeKnockAuth, asKnockAuth}, {modeVisible, asVisible}} {
		with := aliceAndBob + "services:\n" + at("first", 9, asKnock, up) + at("new", mode.port, mode.as, up)
		changes := h.reload(with)
		if want := []string{"new"}; !reflect.DeepEqual(changes.Services.Added, want) || !reflect.DeepEqual(changes.Services, config.Difference{Added: want}) {
			t.Errorf("%s: changes %+v", mode.as, changes)
		}
		s := h.open(alice, clientAddrs[0], mode.port)
		s.assertAlive()
		changes = h.reload(aliceAndBob + "services:\n" + at("first", 9, asKnock, up))
		if !reflect.DeepEqual(changes.Services.Removed, []string{"new"}) {
			t.Errorf("%s: changes %+v", mode.as, changes)
		}
		h.assertReset(s, clientAddrs[0])
		// An attacker, and former clients.
		attacker := netip.MustParseAddr("198.51.100.7")
		for flags := range 64 {
			b := packettest.TCP{Src: netip.AddrPortFrom(attacker, 40000), Dst: target(attacker, mode.port), Flags: uint8(flags), Seq: 1, Ack: 2}.Packet()
			if err := h.wire.Write(packet.Offload{}, [][]byte{b}); err != nil {
				t.Fatal(err)
			}
		}
		before := h.received(clientAddrs[1])
		to := target(clientAddrs[1], mode.port)
		h.datagram(clientAddrs[1], to, knockFor(alice, to, nil, time.Now()))
		if conn, err := h.dial(clientAddrs[1], to, quietPeriod); err == nil {
			t.Errorf("%s: it is reached after it was removed", mode.as)
			_ = conn.Close()
		}
		if h.received(attacker) != 0 || h.received(clientAddrs[1]) != before {
			t.Errorf("%s: a removed service answers", mode.as)
		}
	}
}

// The service is hidden and opened again while a session continues.
func TestReloadOpensAndHidesService(t *testing.T) {
	up := caller(t, "up")
	h := newHarness(t, true, at("door", modeVisible, asVisible, up))
	sessions := []*session{h.open(alice, clientAddrs[0], modeVisible)}
	attacker := netip.MustParseAddr("198.51.100.7")
	for i := range 4 {
		as, answers := asVisible, 1
		if i%2 == 0 {
			as, answers = asKnockAuth, 0
		}
		h.reload(aliceAndBob + "services:\n" + at("door", modeVisible, as, up))
		before := h.received(attacker)
		syn := packettest.SYN(netip.AddrPortFrom(attacker, uint16(40000+i)), target(attacker, modeVisible), 1)
		if err := h.wire.Write(packet.Offload{}, [][]byte{syn}); err != nil {
			t.Fatal(err)
		}
		sessions = append(sessions, h.open(alice, clientAddrs[0], modeVisible)) // behind the SYN
		if got := h.received(attacker) - before; got < answers || answers == 0 && got > 0 {
			t.Errorf("%s: an unauthorized SYN has %d answers, want %d", as, got, answers)
		}
		for _, s := range sessions {
			s.assertAlive()
		}
	}
}

func TestReloadRejectedChangesNothing(t *testing.T) {
	up := caller(t, "up")
	registry := prometheus.NewRegistry()
	words := errors.Join(&config.Error{File: "f.yaml", Line: 3, Msg: "one"}, &config.Error{File: "f.yaml", Line: 9, Msg: "two"})
	next := func() (*config.Config, error) { return nil, words }
	var log logBuffer
	h := newHarness(t, true, allModes(up), func(o *gateway.Options) {
		o.Registry, o.Log, o.Load = registry, log.logger(), func() (*config.Config, error) { return next() }
	})
	s := h.open(alice, clientAddrs[0], modeKnock)
	for range 2 {
		if _, err := h.gw.ReloadFromSource(); !errors.Is(err, words) {
			t.Errorf("%v", err)
		}
	}
	s.assertAlive()
	h.open(alice, clientAddrs[0], modeKnockAuth).assertAlive()
	want := map[string]float64{
		"knockgw_config_last_reload_successful": 0, "knockgw_config_reloads_total{rejected}": 2, "knockgw_config_reloads_total{ok}": 0,
	}
	checkMetrics(t, registry, want)
	for _, line := range []string{"f.yaml:3: one", "f.yaml:9: two"} {
		if !log.contains(line) {
			t.Errorf("the log has no %q", line)
		}
	}
	next = func() (*config.Config, error) {
		return parseConfig(t, aliceAndBob+"services:\n"+allModes(up)+at("new", 5, asKnock, up)), nil
	}
	changes, cfg, err := h.gw.DryRun()
	if err != nil || len(cfg.Services) != 5 || !reflect.DeepEqual(changes.Services.Added, []string{"new"}) {
		t.Errorf("rehearsed: %+v, %v", changes, err)
	}
	checkMetrics(t, registry, want)
	if _, err := h.gw.ReloadFromSource(); err != nil {
		t.Error(err)
	}
	checkMetrics(t, registry, map[string]float64{
		"knockgw_config_last_reload_successful": 1, "knockgw_config_reloads_total{rejected}": 2, "knockgw_config_reloads_total{ok}": 1,
	})
	s.assertAlive()
}

// checkMetrics checks the values of metrics by name and label, if
// there is one.
func checkMetrics(t *testing.T, r *prometheus.Registry, want map[string]float64) {
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

func TestReloadReportsPendingRestart(t *testing.T) {
	up := caller(t, "up")
	h := newHarness(t, true, at("knock", modeKnock, asKnock, up))
	s := h.open(alice, clientAddrs[0], modeKnock)
	text := aliceAndBob + "services:\n" + at("knock", modeKnock, asKnock, up) + at("new", 5, asKnockAuth, up) +
		"state: {dir: /nowhere}\nlimits: {flows: 1, knocks: 64}\n"
	for i := range 2 {
		changes := h.reload(text)
		if want := []string{"limits.flows", "limits.knocks", "state.dir"}; !reflect.DeepEqual(changes.PendingRestart, want) {
			t.Errorf("these wait for a restart: %q, want %q", changes.PendingRestart, want)
		}
		if added := len(changes.Services.Added); added != 1-i {
			t.Errorf("reload %d: %d services were added", i, added)
		}
	}
	s.assertAlive()
	h.open(alice, clientAddrs[0], 5).assertAlive()
}

func TestReloadRequiresRunningGateway(t *testing.T) {
	cfg := parseConfig(t, aliceAndBob+"services:\n"+embedded)
	device, _ := tuntest.Pair(testMTU, true)
	var log logBuffer
	registry := prometheus.NewRegistry()
	gw, err := gateway.New(cfg, gateway.Options{Device: device, Log: log.logger(), Registry: registry})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gw.Reload(cfg); !errors.Is(err, gateway.ErrNotRunning) {
		t.Errorf("before Run: %v", err)
	}
	checkMetrics(t, registry, map[string]float64{"knockgw_config_reloads_total{rejected}": 0, "knockgw_config_reloads_total{ok}": 0})
	if log.contains("refused") || !log.contains("starting or stopping") {
		t.Error("the log calls that a configuration that was refused")
	}
	h := newHarness(t, true, embedded)
	h.stop()
	err = <-h.done
	h.done <- err
	if _, err := h.gw.Reload(cfg); !errors.Is(err, gateway.ErrNotRunning) {
		t.Errorf("after Run: %v", err)
	}
}

func TestReloadOpensAndClosesListeners(t *testing.T) {
	h := newHarness(t, true, embedded)
	quiet, err := h.gw.Listener("quiet")
	if err != nil {
		t.Fatal(err)
	}
	api, err := h.gw.Listener("api")
	if err != nil {
		t.Fatal(err)
	}
	h.reload(aliceAndBob + `services:
  - {name: quiet, listen: "10.77.0.1:2", mode: knock, idle: 1m}
  - {name: new, listen: "10.77.0.1:9", mode: knock-auth}
`)
	if _, err := api.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener of a removed service: %v", err)
	}
	if _, err := h.gw.Listener("api"); err == nil {
		t.Error("a removed service has a listener")
	}
	fresh, err := h.gw.Listener("new")
	if err != nil {
		t.Fatal(err)
	}
	for port, ln := range map[uint16]net.Listener{2: quiet, 9: fresh} {
		conn, err := h.connectAs(alice, clientAddrs[0], port)
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
