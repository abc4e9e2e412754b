package config

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

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
			t.Errorf("%s: formatted as %s, which is %+v, %v", text, up, again, err)
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
