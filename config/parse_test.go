package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/knockgw/knockgw/protocol"
)

// minimal is the shortest configuration with a service.
const minimal = `tun: {routes: [10.77.0.0/24]}
clients:
  - {id: alice, secret: 0123456789abcdef}
services:
  - {name: ssh, listen: "10.77.0.1:22", upstream: "10.0.2.2:2222"}
`

func mustParse(t *testing.T, text string, opts ...Option) *Config {
	t.Helper()
	c, err := Parse("test.yaml", []byte(text), opts...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// date parses a time in RFC 3339.
func date(text string) time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return t.UTC()
}

// beforeItsDates is a day on which nothing in the example has expired.
var beforeItsDates = WithNow(date("2026-01-01T00:00:00Z"))

// copyExample copies the example and its key to files with the required modes.
func copyExample(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"full.yaml", "alice.key"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "full.yaml")
}

func TestParseExample(t *testing.T) {
	c, err := Load(copyExample(t), beforeItsDates)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Warnings) != 0 {
		t.Errorf("warnings: %q", c.Warnings)
	}
	secret := func(first byte) Secret {
		b := make(Secret, 32)
		for i := range b {
			b[i] = first + byte(i)
		}
		return b
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	all := []Method{MethodUDP, MethodUDPSeq, MethodTCPSYN, MethodTCPSYNSeq, MethodUDPv2}
	auth := Auth{[]AuthProtocol{AuthV2, AuthV1}, HintRoute, []int{128, 192, 256, 384, 512}, true, 3 * time.Second}
	service := func(name, listen string, port uint16, up Upstream, mode Mode, methods []Method) Service {
		return Service{Name: name, Listen: netip.MustParsePrefix(listen), Port: port, MACPort: port, Upstream: up,
			Mode: mode, Knock: methods, Grant: Grant{15 * time.Second, 1}, SessionRequired: true, Auth: auth,
			Idle: 24 * time.Hour, DialTimeout: 5 * time.Second}
	}
	want := &Config{
		TUN:   TUN{"knock0", 1500, []netip.Prefix{netip.MustParsePrefix("10.77.0.0/24"), netip.MustParsePrefix("fd77::/64")}, nil, FilterAuto},
		Knock: Knock{62201, 30 * time.Second, "berlin-1", 30 * time.Second, Sequence{3, 5 * time.Second, 30 * time.Second, false}},
		Clients: []Client{
			{ID: "alice", Secrets: []ClientSecret{{Secret: secret(0x00)}}, Services: []string{"ssh", "database"}},
			{ID: "bob", Secrets: []ClientSecret{{Secret: secret(0x20)}}},
			{ID: "carol", Secrets: []ClientSecret{{Secret: secret(0x40)}, {secret(0x60), date("2031-01-01T00:00:00Z")}}, Services: []string{"panel"},
				Expires: date("2031-01-01T00:00:00Z"), Hours: &Hours{DaysOf(1, 2, 3, 4, 5), 8 * 60, 18 * 60, berlin},
				MaxGrants: 8, MaxFlows: 64},
		},
		Services: []Service{
			service("ssh", "10.77.0.1/32", 22, Upstream{Host: "10.0.2.2", Port: 22}, ModeKnockAuth, all),
			service("database", "fd77::5/128", 5432, Upstream{Host: "fd00:2::5", Port: 5432}, ModeKnock, all),
			service("web", "10.77.0.2/32", 443, Upstream{Host: "www.internal.example", Port: 8443}, ModeKnockAuth, all),
			service("panel", "10.77.0.128/28", 8080, Upstream{Host: "127.0.0.1", Port: 8080}, ModeAuth, nil),
		},
		Limits:        Limits{256, 4096, 1024, 4096, 131072, 512},
		Ban:           Ban{10, 10 * time.Minute, time.Hour},
		State:         State{"/var/lib/knockgw"},
		Control:       Control{"/run/knockgw/control.sock"},
		Metrics:       Metrics{netip.MustParseAddrPort("127.0.0.1:9091"), true},
		inlineSecrets: true,
		positions:     c.positions, // of these, TestPosition
	}
	want.Services[2].Visible = true
	want.Services[3].Auth = Auth{[]AuthProtocol{AuthV2}, HintNone, []int{128, 256}, true, 3 * time.Second}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

func TestParseDefaults(t *testing.T) {
	c := mustParse(t, minimal)
	full, err := Load(copyExample(t))
	if err != nil {
		t.Fatal(err)
	}
	got, want := c.Services[0], full.Services[0]
	got.Upstream = want.Upstream
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	full.Knock.Gateway = ""
	if !reflect.DeepEqual(c.Knock, full.Knock) || c.TUN.Name != full.TUN.Name || c.TUN.MTU != full.TUN.MTU {
		t.Errorf("got %+v %+v", c.Knock, c.TUN)
	}
	if c.Limits != full.Limits || c.Ban != full.Ban {
		t.Errorf("got %+v %+v", c.Limits, c.Ban)
	}
	if a := c.Clients[0]; !a.Expires.IsZero() || a.Hours != nil || a.MaxGrants != 0 || a.MaxFlows != 0 {
		t.Errorf("got %+v", a)
	}
	if c.State.Dir != "" || c.Control.Socket != "" || c.Metrics.Listen.IsValid() {
		t.Errorf("got %+v %+v %+v", c.State, c.Control, c.Metrics)
	}
}

// withService returns minimal with keys added to its service.
func withService(keys string) string {
	return strings.Replace(minimal, `"10.0.2.2:2222"}`, `"10.0.2.2:2222", `+keys+`}`, 1)
}

func TestParseModeAliases(t *testing.T) {
	for text, want := range map[string]struct {
		mode    Mode
		visible bool
	}{
		"mode: auth":                           {ModeAuth, false},
		"mode: auth-only":                      {ModeAuth, false},
		"mode: knock":                          {ModeKnock, false},
		"mode: knock-firewall-only":            {ModeKnock, false},
		"mode: knock-auth":                     {ModeKnockAuth, false},
		"mode: knock-firewall-auth":            {ModeKnockAuth, false},
		"mode: knock-auth-only":                {ModeKnockAuth, true},
		"mode: knock-auth-only, visible: true": {ModeKnockAuth, true},
		"mode: knock-auth, visible: true":      {ModeKnockAuth, true},
		"mode: auth, visible: false":           {ModeAuth, false},
		"visible: true":                        {ModeKnockAuth, true},
	} {
		svc := mustParse(t, withService(text)).Services[0]
		if svc.Mode != want.mode || svc.Visible != want.visible {
			t.Errorf("%s: got %s, visible %v", text, svc.Mode, svc.Visible)
		}
	}
}

func TestParseMethodAliases(t *testing.T) {
	for text, want := range map[string][]Method{
		"[udp]":                               {MethodUDP},
		"[udp-passive, udp]":                  {MethodUDP},
		"[udp-sequence]":                      {MethodUDPSeq},
		"[udp-passive-sequence, tcp-syn]":     {MethodUDPSeq, MethodTCPSYN},
		"[tcp-syn-seq, udp-passive-seq]":      {MethodTCPSYNSeq, MethodUDPSeq},
		"[tcp-syn, tcp-syn-seq, tcp-syn]":     {MethodTCPSYN, MethodTCPSYNSeq},
		"[udp, udp-seq, udp-passive, &a udp]": {MethodUDP, MethodUDPSeq},
		"[udp-v2, udp, udp-v2]":               {MethodUDPv2, MethodUDP},
	} {
		if got := mustParse(t, withService("knock: "+text)).Services[0].Knock; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %q", text, got)
		}
	}
}

func TestParseGatewayName(t *testing.T) {
	for text, want := range map[string]string{
		`""`:                                     "",
		"münchen 1":                              "münchen 1",
		strings.Repeat("a", protocol.MaxGateway): strings.Repeat("a", protocol.MaxGateway),
	} {
		if got := mustParse(t, minimal+"knock: {gateway: "+text+"}\n").Knock.Gateway; got != want {
			t.Errorf("%s: got %q", text, got)
		}
	}
}

func TestParseLegacySequence(t *testing.T) {
	k := mustParse(t, minimal+"knock: {slot: 1m, sequence: {legacy: true, slot: 10s}}\n").Knock
	if !k.Sequence.Legacy || k.Slot != time.Minute || k.Sequence.Slot != 10*time.Second {
		t.Errorf("got %+v", k)
	}
}

func TestParseListen(t *testing.T) {
	for text, want := range map[string]string{
		"10.77.0.1:22":                "10.77.0.1/32 22",
		"10.77.0.0/24:22":             "10.77.0.0/24 22",
		"[fd77::1]:22":                "fd77::1/128 22",
		"[fd77::/64]:65535":           "fd77::/64 65535",
		"[::ffff:10.77.0.1]:22":       "10.77.0.1/32 22",
		"[::ffff:10.77.0.0/120]:8443": "10.77.0.0/24 8443",
		"[10.77.0.1]:22":              "10.77.0.1/32 22",
	} {
		prefix, port, err := parseListen(text)
		if got := fmt.Sprint(prefix, port); err != nil || got != want {
			t.Errorf("%s: got %s, %v", text, got, err)
		}
	}
}

func TestUpstreamAddress(t *testing.T) {
	dialled := netip.MustParseAddrPort("10.77.0.9:22")
	for text, want := range map[string]string{
		"10.0.2.2:2222":        "10.0.2.2:2222",
		"db.example:22":        "db.example:22",
		"localhost:22":         "localhost:22",
		"[fd00::2]:22":         "[fd00::2]:22",
		"[::ffff:10.0.2.2]:22": "10.0.2.2:22",
		"original:":            "10.77.0.9:22",
		"original":             "10.77.0.9:22",
		"original:2222":        "10.77.0.9:2222",
	} {
		up, err := parseUpstream(text, 22)
		if err != nil || up.Address(dialled) != want {
			t.Errorf("%s: dials %s, %v", text, up.Address(dialled), err)
		}
		if again, err := parseUpstream(up.String(), 22); err != nil || again != up {
			t.Errorf("%s: spelt %s, which is %+v, %v", text, up, again, err)
		}
	}
	v6 := netip.MustParseAddrPort("[fd77::9]:22")
	if got := (Upstream{Original: true}).Address(v6); got != "[fd77::9]:22" {
		t.Errorf("original: dials %s", got)
	}
}

func TestUpstreamOriginalNeedsDevice(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("upstream_device needs Linux")
	}
	text := strings.Replace(minimal, `"10.0.2.2:2222"`, `original:2222, upstream_device: eth1`, 1)
	svc := mustParse(t, text).Services[0]
	if !svc.Upstream.Original || svc.UpstreamDevice != "eth1" {
		t.Fatalf("got %+v", svc)
	}
}

func TestWithoutUpstream(t *testing.T) {
	text := strings.Replace(minimal, `, upstream: "10.0.2.2:2222"`, "", 1)
	if _, err := Parse("test.yaml", []byte(text)); err == nil {
		t.Fatal("accepted without being asked to")
	}
	if c := mustParse(t, text, WithoutUpstream()); !c.Services[0].Upstream.IsZero() {
		t.Fatalf("got %+v", c.Services[0].Upstream)
	}
}

func TestParseSecretEncodings(t *testing.T) {
	for _, text := range []string{
		"0123456789abcdef", "hex:30313233343536373839616263646566", "hex:30313233343536373839616263646566",
		"base64:MDEyMzQ1Njc4OWFiY2RlZg==", "base64:MDEyMzQ1Njc4OWFiY2RlZg",
	} {
		c := mustParse(t, strings.Replace(minimal, "0123456789abcdef", `"`+text+`"`, 1))
		if got := string([]byte(c.Clients[0].Secrets[0].Secret)); got != "0123456789abcdef" {
			t.Errorf("%s: got %q", text, got)
		}
	}
	for _, end := range []string{"", "\n", "\r\n"} {
		name := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(name, []byte("0123456789abcdef"+end), 0o600); err != nil {
			t.Fatal(err)
		}
		c := mustParse(t, strings.Replace(minimal, "secret: 0123456789abcdef", fmt.Sprintf("secret_file: %q", name), 1))
		if got := string([]byte(c.Clients[0].Secrets[0].Secret)); got != "0123456789abcdef" {
			t.Errorf("file ending in %q: got %q", end, got)
		}
	}
}

func TestSecretNeverPrinted(t *testing.T) {
	c := mustParse(t, minimal)
	client := c.Clients[0]
	secret := client.Secrets[0]
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%c"} {
		fmt.Fprintf(&out, verb+verb+verb+verb+"\n", secret.Secret, secret, client, *c)
	}
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(b)
	if b, err = yaml.Marshal(c); err != nil {
		t.Fatal(err)
	}
	out.Write(b)
	slog.New(slog.NewTextHandler(&out, nil)).Info("client", "secret", secret.Secret, "secrets", client.Secrets, "client", client)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("client", "secret", secret.Secret, "secrets", client.Secrets, "client", client)
	for _, leak := range []string{"0123456789abcdef", "30313233", "48, 49", "48 49", "MDEyMzQ1"} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("%q in the output:\n%s", leak, out.String())
		}
	}
}

func TestParseRelativePaths(t *testing.T) {
	text := minimal + "state: {dir: state}\ncontrol: {socket: /run/x.sock}\n"
	c, err := Parse("/etc/knockgw/knockgw.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if c.State.Dir != filepath.FromSlash("/etc/knockgw/state") && runtime.GOOS != "windows" {
		t.Errorf("state.dir is %s", c.State.Dir)
	}
	if c.Control.Socket != "/run/x.sock" && runtime.GOOS != "windows" {
		t.Errorf("control.socket is %s", c.Control.Socket)
	}
}

func TestWarningsNoEffect(t *testing.T) {
	for keys, want := range map[string]string{
		"mode: auth, grant: {uses: 2}":     "test.yaml:5: services[0].grant: has no effect in mode auth",
		"mode: auth, session: optional":    "test.yaml:5: services[0].session: has no effect in mode auth",
		"mode: knock, auth: {proof: true}": "test.yaml:5: services[0].auth: has no effect in mode knock",
	} {
		c := mustParse(t, withService(keys))
		if len(c.Warnings) != 1 || !strings.HasPrefix(c.Warnings[0], want) {
			t.Errorf("%s: warnings %q", keys, c.Warnings)
		}
	}
}

func TestWarningsMethodKeys(t *testing.T) {
	udp := withService("knock: [udp]")
	for _, c := range []struct {
		text string
		want []string
	}{
		{udp + "knock: {gateway: a}", []string{"test.yaml:6: knock.gateway: has no effect: no service accepts udp-v2"}},
		{udp + "knock: {slot: 10s}", []string{"test.yaml:6: knock.slot: has no effect: no service accepts udp-v2"}},
		{udp + "knock: {sequence: {legacy: true}}", []string{"test.yaml:6: knock.sequence.legacy: has no effect: no service accepts tcp-syn-seq"}},
		{udp + "knock: {window: 1m}", nil},
		{minimal + "knock: {gateway: a, slot: 30s, sequence: {legacy: true}}", nil},
		{minimal + "knock: {slot: 10s}", []string{"test.yaml:6: knock.slot: udp-v2 knocks of clocks that differ by more than knock.slot, 10s"}},
		{minimal + "knock: {window: 1m}", []string{"test.yaml:6: knock.window: udp-v2 knocks of clocks that differ by more than knock.slot, 30s"}},
		{minimal + "knock: {window: 1m, slot: 1m}", nil},
		{minimal + "knock: {window: 10s}", nil},
		{minimal + "ban: {after: 0, within: 1m, for: 1m}", []string{"test.yaml:6: ban.within: has no effect: after is 0", "test.yaml:6: ban.for: has no effect"}},
		{minimal + "ban: {after: 0}", nil},
		{minimal + "limits: {flows: 100}", nil},
		{minimal + "limits: {flows: 100, flows_per_client: 101, flows_per_source: 101}",
			[]string{"test.yaml:6: limits.flows_per_client: has no effect", "test.yaml:6: limits.flows_per_source: has no effect"}},
		{withClientKeys("max_flows: 101") + "limits: {flows: 100}", []string{"test.yaml:3: clients[0].max_flows: has no effect: limits.flows, the total, is 100"}},
		{withClientKeys("max_flows: 100, max_grants: 300") + "limits: {flows: 100}", nil},
	} {
		wantWarnings(t, warnings(t, c.text), c.want)
	}
}

func TestParseLimitsAndBan(t *testing.T) {
	c := mustParse(t, minimal+`limits: {grants_per_client: 1, flows_per_client: 2, grants_per_source: 3, flows_per_source: 4, flows: 5, knocks: 64}
ban: {after: 3, within: 1s, for: 720h}
`)
	if want := (Limits{1, 2, 3, 4, 5, 64}); c.Limits != want {
		t.Errorf("got %+v", c.Limits)
	}
	if want := (Ban{3, time.Second, 30 * 24 * time.Hour}); c.Ban != want {
		t.Errorf("got %+v", c.Ban)
	}
	if c = mustParse(t, minimal+"ban: {after: 0}"); c.Ban.After != 0 {
		t.Errorf("got %+v", c.Ban)
	}
}

func TestLoadWarnsInsecureFile(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no permission bits")
	}
	name := copyExample(t)
	if err := os.Chmod(name, 0o644); err != nil { // the point
		t.Fatal(err)
	}
	c, err := Load(name, beforeItsDates)
	if err != nil || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "chmod 600") {
		t.Fatalf("%v, %v", c, err)
	}
}

func TestLoadUnreadableFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "none.yaml")
	_, err := Load(name)
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, fs.ErrNotExist) || e.File != name || e.Line != 0 {
		t.Fatalf("got %#v", err)
	}
}

func TestTable(t *testing.T) {
	c, err := Load(copyExample(t))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(c.Table())
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"service":"ssh","listen":"10.77.0.1:22","mode":"knock-auth","visible":false,"knock":["udp","udp-seq","tcp-syn","tcp-syn-seq","udp-v2"],"auth":["v2","v1"],"clients":["alice","bob"],"client_count":2,"upstream":"10.0.2.2:22"},` +
		`{"service":"database","listen":"[fd77::5]:5432","mode":"knock","visible":false,"knock":["udp","udp-seq","tcp-syn","tcp-syn-seq","udp-v2"],"auth":[],"clients":["alice","bob"],"client_count":2,"upstream":"[fd00:2::5]:5432"},` +
		`{"service":"web","listen":"10.77.0.2:443","mode":"knock-auth","visible":true,"knock":["udp","udp-seq","tcp-syn","tcp-syn-seq","udp-v2"],"auth":["v2","v1"],"clients":["bob"],"client_count":1,"upstream":"www.internal.example:8443"},` +
		`{"service":"panel","listen":"10.77.0.128/28:8080","mode":"auth","visible":true,"knock":[],"auth":["v2"],"clients":["bob","carol"],"client_count":2,"upstream":"127.0.0.1:8080"}]`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
}

func TestParseFilter(t *testing.T) {
	for text, want := range map[string]Filter{
		"": FilterAuto, "filter: auto, ": FilterAuto, "filter: off, ": FilterOff, `filter: "off", `: FilterOff,
	} {
		if c := mustParse(t, strings.Replace(minimal, "{routes", "{"+text+"routes", 1)); c.TUN.Filter != want {
			t.Errorf("%q: %s", text, c.TUN.Filter)
		}
	}
	c, err := Parse("test.yaml", []byte(strings.Replace(minimal, "{routes", "{filter: require, routes", 1)))
	switch {
	case runtime.GOOS != "linux" && err == nil:
		t.Error("a filter is required where there are none")
	case runtime.GOOS == "linux" && (err != nil || c.TUN.Filter != FilterRequire):
		t.Errorf("%+v, %v", c, err)
	}
}

func TestTableMaxClients(t *testing.T) {
	c := &Config{Services: []Service{{Name: "a"}, {Name: "b"}}}
	for i := range 3 * MaxRowClients {
		cl := Client{ID: strconv.Itoa(i)}
		if i%3 == 1 {
			cl.Services = []string{"b"}
		}
		c.Clients = append(c.Clients, cl)
	}
	for i, r := range c.Table() {
		if want := (2 + i) * MaxRowClients; r.NumClients != want || len(r.Clients) != MaxRowClients {
			t.Errorf("%s: %d clients, want %d; %d are named", r.Service, r.NumClients, want, len(r.Clients))
		}
		for n, id := range r.Clients {
			if want := []int{n/2*3 + n%2*2, n}[i]; id != strconv.Itoa(want) {
				t.Fatalf("%s: client %d is %s, want %d", r.Service, n, id, want)
			}
		}
	}
}

func TestWarningsTrialDecryption(t *testing.T) {
	for _, c := range []struct {
		clients int
		knock   string
		warns   bool
	}{
		{maxTrialClients, "", false}, {maxTrialClients + 1, "", true}, {maxTrialClients + 1, "knock: [udp-v2, tcp-syn], ", false},
		{maxTrialClients + 1, "knock: [udp-seq], ", true},
	} {
		var b strings.Builder
		b.WriteString("version: 1\ntun: {routes: [10.77.0.0/24]}\nclients:\n")
		for i := range c.clients {
			fmt.Fprintf(&b, "  - {id: c%d, secret: \"hex:%064x\"}\n", i, i+1)
		}
		b.WriteString("services:\n")
		for port := range 3 {
			fmt.Fprintf(&b, "  - {%sname: s%d, listen: \"10.77.0.1:%d\", upstream: \"10.0.2.2:22\"}\n", c.knock, port, port+1)
		}
		cfg, err := Parse("many.yaml", []byte(b.String()))
		if err != nil {
			t.Fatal(err)
		}
		warned := 0
		for _, w := range cfg.Warnings {
			if strings.Contains(w, "s0 (and 2 other services) accepts knocks of the methods udp and udp-seq") {
				warned++
			}
		}
		if want := map[bool]int{true: 1}[c.warns]; warned != want {
			t.Errorf("%d clients, %q: %d warnings: %v", c.clients, c.knock, warned, cfg.Warnings)
		}
	}
}
