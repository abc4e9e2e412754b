package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// fullConfig is a configuration with every key, each on its own line.
const fullConfig = `version: 1
tun:
  name: knock0
  mtu: 1500
  filter: auto
  routes: [10.77.0.0/24]
knock:
  udp_port: 62201
  window: 30s
  gateway: gw
  slot: 30s
  sequence: {length: 3, window: 5s, slot: 30s}
clients:
  - id: alice
    secret: 0123456789abcdef
    services: [ssh]
    expires: 2090-01-01
    hours: {days: [mon], from: "08:00", to: "18:00", zone: UTC}
    max_grants: 10
    max_flows: 10
    profile: {name: office, method: udp}
  - {id: bob, secret: bob 0123456789abcdef}
services:
  - name: ssh
    listen: 10.77.0.1:22
    upstream: 10.0.2.2:2222
    mode: knock-auth
    visible: false
    knock: [udp, tcp-syn]
    grant: {ttl: 15s, uses: 1}
    session: required
    auth: {deadline: 3s}
    port: 22
    idle: 5m
    dial_timeout: 5s
  - {name: web, listen: "10.77.0.1:443", upstream: "10.0.2.2:443"}
limits:
  grants_per_client: 256
  flows_per_client: 4096
  grants_per_source: 1024
  flows_per_source: 4096
  flows: 131072
  knocks: 512
ban: {after: 10, within: 10m, for: 1h}
state: {dir: /var/lib/knockgw}
control: {socket: /run/knockgw/control.sock}
metrics: {listen: 127.0.0.1:9091}
audit: {file: /var/log/knockgw/audit.log, max_mib: 64, keep: 4}
`

// summary returns Changes on one line.
func summary(c Changes) string { return strings.Join(c.Lines(), "; ") }

func TestDiffKeys(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{"", "", ""},
		{"routes: [10.77.0.0/24]", "routes: [10.77.0.0/24, 10.78.0.0/24]", "tun.routes changed: waits for a restart"},
		{"name: knock0", "name: knock1", "tun.name changed: waits for a restart"},
		{"mtu: 1500", "mtu: 1400", "tun.mtu changed: waits for a restart"},
		{"filter: auto", "filter: off", "tun.filter changed: waits for a restart"},
		{"udp_port: 62201", "udp_port: 62202", "knock.udp_port changed"},
		{"window: 30s\n", "window: 20s\n", "knock.window changed"},
		{"gateway: gw", "gateway: other", "knock.gateway changed"},
		{"slot: 30s\n", "slot: 60s\n", "knock.slot changed"},
		{"length: 3", "length: 4", "knock.sequence changed"},
		{"grants_per_client: 256", "grants_per_client: 1", "limits.grants_per_client changed"},
		{"flows_per_client: 4096", "flows_per_client: 1", "limits.flows_per_client changed"},
		{"grants_per_source: 1024", "grants_per_source: 1", "limits.grants_per_source changed"},
		{"flows_per_source: 4096", "flows_per_source: 1", "limits.flows_per_source changed"},
		{"flows: 131072", "flows: 10", "limits.flows changed: waits for a restart"},
		{"knocks: 512", "knocks: 64", "limits.knocks changed: waits for a restart"},
		{"after: 10", "after: 0", "ban changed"},
		{"dir: /var/lib/knockgw", "dir: /tmp", "state.dir changed: waits for a restart"},
		{"socket: /run/knockgw/control.sock", "socket: /run/x", "control.socket changed: waits for a restart"},
		{"listen: 127.0.0.1:9091", "listen: 127.0.0.1:9092", "metrics.listen changed: waits for a restart"},
		{"file: /var/log", "file: /log", "audit.file changed: waits for a restart"},
		{"max_mib: 64", "max_mib: 65", "audit.max_mib changed: waits for a restart"},
		{"keep: 4", "keep: 5", "audit.keep changed: waits for a restart"},

		{"secret: 0123456789abcdef", "secret: fedcba9876543210", "client alice: secret changed"},
		{"secret: 0123456789abcdef", "secrets: [{secret: 0123456789abcdef}]", ""},
		{"secret: 0123456789abcdef", "secrets: [{secret: 0123456789abcdef, until: 2091-01-01}]", "client alice: secret changed"},
		{"services: [ssh]", "services: [web, ssh]", "client alice: services changed"},
		{"expires: 2090-01-01", "expires: 2091-01-01", "client alice: expires changed"},
		{"days: [mon]", "days: [tue]", "client alice: hours changed"},
		{"zone: UTC", "zone: Europe/Berlin", "client alice: hours changed"},
		{"max_grants: 10", "max_grants: 11", "client alice: max_grants changed"},
		{"max_flows: 10", "max_flows: 11", "client alice: max_flows changed"},
		{"name: office, method: udp", "name: home", ""},
		{"id: bob", "id: carol", "client carol added; client bob removed"},

		{"listen: 10.77.0.1:22", "listen: 10.77.0.2:22", "service ssh: listen changed"},
		{"upstream: 10.0.2.2:2222", "upstream: 10.0.2.2:22", "service ssh: upstream changed"},
		{"mode: knock-auth", "mode: knock", "service ssh: mode changed"},
		{"visible: false", "visible: true", "service ssh: visible changed"},
		{"knock: [udp, tcp-syn]", "knock: [tcp-syn, udp]", ""},
		{"knock: [udp, tcp-syn]", "knock: [udp]", "service ssh: knock changed"},
		{"ttl: 15s", "ttl: 16s", "service ssh: grant changed"},
		{"session: required", "session: optional", "service ssh: session changed"},
		{"deadline: 3s", "deadline: 4s", "service ssh: auth changed"},
		{"port: 22\n", "port: 23\n", "service ssh: port changed"},
		{"idle: 5m", "idle: 6m", "service ssh: idle changed"},
		{"dial_timeout: 5s", "dial_timeout: 6s", "service ssh: dial_timeout changed"},
		{"name: web", "name: api", "service api added; service web removed"},
	} {
		text := strings.Replace(fullConfig, c.from, c.to, 1)
		if c.from != "" && text == fullConfig {
			t.Errorf("%q is not in the file", c.from)
		}
		old, changed := mustParse(t, fullConfig), mustParse(t, text)
		d := Diff(old, changed)
		if got := summary(d); got != c.want {
			t.Errorf("%q -> %q: %q, want %q", c.from, c.to, got, c.want)
		}
		if d.Empty() != (c.want == "") {
			t.Errorf("%q -> %q: Empty is %v", c.from, c.to, d.Empty())
		}
		if again := Diff(KeepStatic(old, changed), changed); !reflect.DeepEqual(again, Changes{PendingRestart: d.PendingRestart}) {
			t.Errorf("%q -> %q: what waits for a restart is %+v afterwards, of %+v", c.from, c.to, again, d)
		}
	}
}

func TestDiffIgnoresOrder(t *testing.T) {
	a, b := mustParse(t, fullConfig), mustParse(t, fullConfig)
	slices.Reverse(b.Services)
	slices.Reverse(b.Clients)
	if d := Diff(a, b); !d.Empty() {
		t.Errorf("%s", summary(d))
	}
}

func TestDiffHidesSecrets(t *testing.T) {
	a := mustParse(t, fullConfig)
	b := mustParse(t, strings.Replace(fullConfig, "secret: 0123456789abcdef", "secret: fedcba9876543210", 1))
	d := Diff(a, b)
	j, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{string(j), fmt.Sprintf("%+v", d), summary(d)} {
		if strings.Contains(text, "0123456789abcdef") || strings.Contains(text, "fedcba") {
			t.Errorf("%s", text)
		}
	}
	want := `{"services":{"added":[],"removed":[],"changed":[]},"clients":{"added":[],"removed":[],` +
		`"changed":[{"name":"alice","keys":["secret"]}]},"keys":[],"pending_restart":[]}`
	if string(j) != want {
		t.Errorf("%s, want %s", j, want)
	}
}

func TestDiffEscapesLineEnds(t *testing.T) {
	c := Changes{Clients: Difference{Added: []string{"a\nb"}}}
	if got := summary(c); got != `client "a\nb" added` {
		t.Error(got)
	}
}

func TestDiffJSONEmptyLists(t *testing.T) {
	text, err := json.Marshal(Diff(mustParse(t, fullConfig), mustParse(t, fullConfig)))
	want := `{"services":{"added":[],"removed":[],"changed":[]},"clients":{"added":[],"removed":[],"changed":[]},"keys":[],"pending_restart":[]}`
	if err != nil || string(text) != want {
		t.Errorf("%s, %v", text, err)
	}
}
