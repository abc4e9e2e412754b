package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"testing"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/bypass"
	"github.com/knockgw/knockgw/internal/control"
)

// healthy returns a host without problems, and a configuration for it.
func healthy(t *testing.T) (*Host, Options) {
	t.Helper()
	cfg, err := config.Parse("/etc/knockgw/knockgw.yaml", []byte(`
tun: {routes: [10.77.0.0/24, "fd77::/64"]}
clients: [{id: alice, secret: 0123456789abcdef}]
services: [{name: ssh, listen: "10.77.0.1:22", upstream: "files.example:22"}]
state: {dir: /var/lib/knockgw}
control: {socket: /run/knockgw/control.sock}
limits: {flows: 1024}
`))
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{
		"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1", "ipv6/conf/all/disable_ipv6": "0", "ipv4/conf/all/rp_filter": "0", "ipv6/conf/eth0/accept_ra": "1",
	}
	h := &Host{
		System:       "linux",
		Running:      func(context.Context) (int, error) { return 0, control.ErrNotRunning },
		Kernel:       func() (string, error) { return "6.12.1-generic", nil },
		OpenTUN:      func() error { return nil },
		Capabilities: func() (uint64, error) { return 1<<capNetAdmin | 1<<capBPF | 1<<capNetBindService, nil },
		LoadFilter:   func() error { return nil },
		Setting: func(name string) (string, error) {
			if v, ok := settings[name]; ok {
				return v, nil
			}
			return "0", nil
		},
		Links: func() ([]Link, error) {
			return []Link{
				{Name: "lo", MTU: 65536, Up: true, Loopback: true, Addrs: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}},
				{Name: "eth0", MTU: 1500, Up: true, Addrs: []netip.Prefix{netip.MustParsePrefix("203.0.113.7/24")}},
			}, nil
		},
		Route:               func(netip.Addr) (string, error) { return "eth0", nil },
		MissingRoutes:       func() (routes, ports []string, err error) { return nil, nil, nil },
		Bypass:              func(bool) ([]bypass.Problem, error) { return nil, nil },
		IngressRoute:        func(IngressPacket) (string, error) { return "knock0", nil },
		ProxiedAddrs:        func(string) ([]netip.Addr, error) { return nil, nil },
		Firewall:            func() (*Firewall, error) { return &Firewall{}, nil },
		Interface:           func(string) (TUNInterface, error) { return TUNInterface{TUN: true, Up: true, Owner: 999}, nil },
		ForeignRouteCleanup: func() (string, error) { return "", nil },
		ReadDir:             func(string) ([]string, error) { return nil, nil },
		Bind:                func(netip.AddrPort, bool) error { return nil },
		ClockSynced:         func() (bool, error) { return true, nil },
		Resolve: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("10.0.2.2")}, nil
		},
		Dial:        func(context.Context, string) error { return nil },
		LoadZone:    func(string) error { return nil },
		File:        func(string) (File, error) { return File{Mode: fs.ModeDir | 0o755}, nil },
		Descriptors: func() (uint64, error) { return 1 << 20, nil },
		Memory:      func() (uint64, error) { return 1 << 30, nil },
	}
	return h, Options{Config: cfg, File: "/etc/knockgw/knockgw.yaml", Account: Account{Name: "root"}}
}

func TestExamineAcceptsHealthyHost(t *testing.T) {
	t.Parallel()
	h, o := healthy(t)
	for _, f := range Examine(t.Context(), h, o) {
		if f.Level != OK || f.Fix != "" || f.Message == "" {
			t.Errorf("%+v", f)
		}
	}
}

func TestExamineReportsFixForEachProblem(t *testing.T) {
	t.Parallel()
	setting := func(name, value string) func(*Host, *Options) {
		return func(h *Host, _ *Options) {
			before := h.Setting
			h.Setting = func(n string) (string, error) {
				if n == name {
					return value, nil
				}
				return before(n)
			}
		}
	}
	hide := func(h *Host, o *Options) {
		o.Config.TUN.Local = []netip.AddrPort{netip.MustParseAddrPort("203.0.113.7:22")}
	}
	runs := func(h *Host) { h.Running = func(context.Context) (int, error) { return 7, nil } }
	for name, c := range map[string]struct {
		damage func(*Host, *Options)
		check  string
		level  Level
		fix    string
	}{
		"no control socket": {func(_ *Host, o *Options) { o.Config.Control.Socket = "" }, "gateway", Warn, "control.sock"},
		"a gateway one may not ask": {func(h *Host, _ *Options) {
			h.Running = func(context.Context) (int, error) { return 0, fs.ErrPermission }
		}, "gateway", Warn, "as root"},
		"another process at the control socket": {func(h *Host, _ *Options) {
			h.Running = func(context.Context) (int, error) { return 0, errors.New("malformed HTTP response") }
		}, "gateway", Fail, "ss -lxp src /run/knockgw/control.sock"},
		"an old kernel":           {func(h *Host, _ *Options) { h.Kernel = func() (string, error) { return "5.10.0", nil } }, "system", Warn, "update"},
		"another system":          {func(h *Host, _ *Options) { h.System, h.Kernel = "plan9", nil }, "system", Warn, "host-modes.md"},
		"no TUN device":           {func(h *Host, _ *Options) { h.OpenTUN = func() error { return fs.ErrNotExist } }, "TUN device", Fail, "modprobe tun"},
		"a TUN device for others": {func(h *Host, _ *Options) { h.OpenTUN = func() error { return fs.ErrPermission } }, "TUN device", Fail, "as root"},
		"no privileges":           {func(h *Host, _ *Options) { h.Capabilities = func() (uint64, error) { return 0, nil } }, "privileges", Fail, "CAP_NET_ADMIN"},
		"no CAP_BPF": {func(h *Host, _ *Options) {
			h.Capabilities = func() (uint64, error) { return 1 << capNetAdmin, nil }
		}, "privileges", Warn, "CAP_BPF"},
		"no CAP_BPF where the filter is required": {func(h *Host, o *Options) {
			o.Config.TUN.Filter = config.FilterRequire
			h.Capabilities = func() (uint64, error) { return 1 << capNetAdmin, nil }
		}, "privileges", Fail, "CAP_BPF"},
		"low ports": {func(h *Host, o *Options) {
			hide(h, o)
			h.Capabilities = func() (uint64, error) { return 1<<capNetAdmin | 1<<capBPF, nil }
		}, "privileges", Fail, "CAP_NET_BIND_SERVICE"},
		"a filter that is forbidden": {func(h *Host, _ *Options) { h.LoadFilter = func() error { return fs.ErrPermission } }, "filter", Warn, "filter: off"},
		"no forwarding":              {setting("ipv4/ip_forward", "0"), "forwarding IPv4", Fail, "net.ipv4.ip_forward=1"},
		"no forwarding of IPv6":      {setting("ipv6/conf/all/forwarding", "0"), "forwarding IPv6", Fail, "net.ipv6.conf.all.forwarding=1 && sysctl -w net.ipv6.conf.eth0.accept_ra=2"},
		"IPv6 disabled":              {setting("ipv6/conf/all/disable_ipv6", "1"), "IPv6", Fail, "disable_ipv6=0"},
		"no IPv6 at all": {func(h *Host, _ *Options) {
			before := h.Setting
			h.Setting = func(n string) (string, error) {
				if strings.HasPrefix(n, "ipv6") {
					return "", fs.ErrNotExist
				}
				return before(n)
			}
		}, "IPv6", Fail, "ipv6.disable"},
		"strict sources on two links": {func(h *Host, o *Options) {
			setting("ipv4/conf/all/rp_filter", "1")(h, o)
			links := h.Links
			h.Links = func() ([]Link, error) {
				all, err := links()
				return append(all, Link{Name: "eth1", MTU: 1500, Up: true}), err
			}
		}, "rp_filter", Warn, "rp_filter=2"},
		"a protected address of the host's own": {func(_ *Host, o *Options) {
			o.Config.TUN.Routes = append(o.Config.TUN.Routes, netip.MustParsePrefix("203.0.113.7/32"))
		}, "routes", Fail, "ip addr del 203.0.113.7/24 dev eth0"},
		"a prefix in a neighboring network": {func(_ *Host, o *Options) {
			o.Config.TUN.Routes = append(o.Config.TUN.Routes, netip.MustParsePrefix("203.0.113.64/28"))
			o.Config.Services[0].Listen = netip.MustParsePrefix("203.0.113.65/32")
		}, "routes", Warn, "ip neigh add proxy"},
		"a prefix in a connected network without proxy ARP": {func(_ *Host, o *Options) {
			o.Config.TUN.Routes = append(o.Config.TUN.Routes, netip.MustParsePrefix("203.0.113.64/28"))
			s := o.Config.Services[0]
			s.Listen = netip.MustParsePrefix("203.0.113.65/32")
			o.Config.Services = append(o.Config.Services, s)
		}, "routes", Warn, "ip neigh add proxy 203.0.113.65 dev eth0"},
		"removed routes": {func(h *Host, _ *Options) {
			runs(h)
			h.MissingRoutes = func() (routes, ports []string, err error) { return []string{"the blackhole of 10.77.0.0/24"}, nil, nil }
		}, "routes", Fail, "systemctl restart knockgw"},
		"a rule of others that comes before": {func(h *Host, _ *Options) {
			runs(h)
			h.IngressRoute = func(IngressPacket) (string, error) { return "tailscale0", nil }
		}, "ingress route", Fail, "ip route get 10.77.0.1 from 203.0.113.8 iif eth0 ipproto tcp dport 22"},
		"a network manager that clears away": {func(h *Host, _ *Options) {
			h.ForeignRouteCleanup = func() (string, error) { return "systemd-networkd", nil }
		}, "network manager", Warn, "ManageForeignRoutes=no"},
		"no account": {func(_ *Host, o *Options) { o.MissingAccount = "knockgw" }, "account", Fail, "useradd --system --user-group --shell /usr/sbin/nologin knockgw"},
		"a metrics port that is taken": {func(h *Host, o *Options) {
			o.Config.Metrics.Listen = netip.MustParseAddrPort("127.0.0.1:9090")
			h.Bind = func(netip.AddrPort, bool) error { return errors.New("address in use") }
		}, "metrics.listen", Fail, "ss -ltnp 'sport = :9090'"},
		"a metrics port that takes a privilege": {func(h *Host, o *Options) {
			o.Config.Metrics.Listen = netip.MustParseAddrPort("127.0.0.1:90")
			setting("ipv4/ip_unprivileged_port_start", "1024")(h, o)
		}, "metrics.listen", Fail, "127.0.0.1:9090"},
		"no prepared device": {func(h *Host, o *Options) {
			o.Existing = true
			h.Interface = func(string) (TUNInterface, error) { return TUNInterface{}, fs.ErrNotExist }
		}, "prepared device", Fail, "ip tuntap add dev knock0 mode tun user root"},
		"a TUN device that is root's alone": {func(h *Host, o *Options) {
			o.Existing, o.Account = true, Account{Name: "knockgw", UID: 999}
			h.File = func(path string) (File, error) {
				if path == tunDevice {
					return File{Mode: 0o600}, nil
				}
				return File{Mode: fs.ModeDir | 0o777}, nil
			}
		}, "TUN device", Fail, "chmod 0666 /dev/net/tun"},
		"a prepared device of another user":       {func(_ *Host, o *Options) { o.Existing = true }, "prepared device", Fail, "ip tuntap del dev knock0 mode tun"},
		"a prepared device that nothing leads to": {func(_ *Host, o *Options) { o.Existing = true }, "routes", Fail, "ip route add 10.77.0.0/24 dev knock0"},
		"ports of the host and a prepared device": {func(h *Host, o *Options) { o.Existing = true; hide(h, o) }, "prepared device", Fail, "tun.local"},
		"a full table of connections": {func(h *Host, o *Options) {
			setting("netfilter/nf_conntrack_count", "65000")(h, o)
			setting("netfilter/nf_conntrack_max", "65536")(h, o)
		}, "firewall", Warn, "nf_conntrack_max"},
		"an old kernel that keeps its tables": {func(h *Host, o *Options) {
			h.Kernel = func() (string, error) { return "5.15.0-91-generic", nil }
			setting("../kernel/unprivileged_bpf_disabled", "2")(h, o)
		}, "filter", Warn, "unprivileged_bpf_disabled=0"},
		"an address that the host lacks": {func(_ *Host, o *Options) {
			o.Config.TUN.Local = []netip.AddrPort{netip.MustParseAddrPort("203.0.113.8:22")}
		}, "host ports", Fail, "tun.local"},
		"a port that is taken": {func(h *Host, o *Options) {
			hide(h, o)
			h.Bind = func(netip.AddrPort, bool) error { return errors.New("address in use") }
		}, "host ports", Fail, "127.0.0.1:22"},
		"removed rules": {func(h *Host, o *Options) {
			hide(h, o)
			runs(h)
			h.MissingRoutes = func() (routes, ports []string, err error) { return nil, []string{"the rule 0"}, nil }
		}, "host ports", Fail, "systemctl restart knockgw"},
		"a link with larger packets": {func(h *Host, _ *Options) {
			h.Links = func() ([]Link, error) { return []Link{{Name: "eth0", MTU: 9000, Up: true}}, nil }
		}, "MTU", Warn, "mtu: 9000"},
		"an upstream without an address": {func(h *Host, _ *Options) {
			h.Resolve = func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("no such host") }
		}, "upstream of ssh", Fail, "getent hosts files.example"},
		"an upstream whose route leads into the device": {func(h *Host, _ *Options) {
			h.Route = func(netip.Addr) (string, error) { return "knock0", nil }
		}, "upstream of ssh", Fail, "ip route add 10.0.2.2/32"},
		"an upstream whose name has a protected address": {func(h *Host, _ *Options) {
			h.Resolve = func(context.Context, string) ([]netip.Addr, error) {
				return []netip.Addr{netip.MustParseAddr("10.77.0.9")}, nil
			}
		}, "upstream of ssh", Fail, "another upstream"},
		"an upstream that does not answer": {func(h *Host, _ *Options) {
			h.Dial = func(context.Context, string) error { return errors.New("refused") }
		}, "upstream of ssh", Warn, "start the service"},
		"a clock on its own": {func(h *Host, _ *Options) { h.ClockSynced = func() (bool, error) { return false, nil } }, "clock", Warn, "timedatectl"},
		"no time zones":      {func(h *Host, _ *Options) { h.LoadZone = func(string) error { return errors.New("unknown") } }, "time zones", Warn, "tzdata"},
		"no state.dir":       {func(_ *Host, o *Options) { o.Config.State.Dir = "" }, "state.dir", Warn, "state:"},
		"a state.dir that another owns": {func(_ *Host, o *Options) {
			o.Account = Account{Name: "knockgw", UID: 999, GIDs: []int{999}}
		}, "state.dir", Fail, "install -d -m 0750 -o knockgw /var/lib/knockgw"},
		"a configuration that another owns": {func(h *Host, o *Options) {
			o.Account = Account{Name: "knockgw", UID: 999}
			h.File = func(path string) (File, error) {
				if path == o.File {
					return File{Mode: 0o600}, nil
				}
				return File{Mode: fs.ModeDir | 0o755}, nil
			}
		}, "configuration", Fail, "chown knockgw /etc/knockgw/knockgw.yaml"},
		"a directory that cannot be entered": {func(h *Host, o *Options) {
			o.Account = Account{Name: "knockgw", UID: 999}
			h.File = func(path string) (File, error) {
				if path == "/etc" {
					return File{Mode: fs.ModeDir | 0o700}, nil
				}
				return File{Mode: fs.ModeDir | 0o777}, nil
			}
		}, "configuration", Fail, "chmod o+x /etc"},
		"a secret that the account cannot read": {func(_ *Host, o *Options) {
			o.Account = Account{Name: "knockgw", UID: 999}
			o.Load = func() error { return errors.New("alice.key: permission denied") }
		}, "secrets", Fail, "chown knockgw"},
		"a foreign file in state.dir": {func(h *Host, o *Options) {
			o.Account = Account{Name: "knockgw", UID: 999}
			h.ReadDir = func(string) ([]string, error) { return []string{"/var/lib/knockgw/seen.0"}, nil }
			h.File = func(path string) (File, error) {
				if strings.HasSuffix(path, "seen.0") {
					return File{Mode: 0o600}, nil
				}
				return File{Mode: fs.ModeDir | 0o777}, nil
			}
		}, "state.dir", Fail, "chown knockgw /var/lib/knockgw/seen.0"},
		"few descriptors": {func(h *Host, _ *Options) { h.Descriptors = func() (uint64, error) { return 1024, nil } }, "descriptors", Warn, "LimitNOFILE=1088"},
		"little memory":   {func(h *Host, _ *Options) { h.Memory = func() (uint64, error) { return 12 << 20, nil } }, "memory", Warn, "limits: {flows: 256}"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, o := healthy(t)
			c.damage(h, &o)
			all := Examine(t.Context(), h, o)
			found := false
			for _, f := range all {
				found = found || f.Check == c.check && f.Level == c.level && strings.Contains(f.Fix, c.fix)
				if f.Level != OK && f.Fix == "" {
					t.Errorf("no fix for %+v", f)
				}
			}
			if !found {
				t.Errorf("no %s about %s that says %q among\n%s", c.level, c.check, c.fix, lines(all))
			}
			if c.level == Fail && !Failed(all) {
				t.Error("it does not count as failed")
			}
		})
	}
}

// Checks without a query report that they were not made.
func TestExamineReportsUncheckedOnOtherSystems(t *testing.T) {
	t.Parallel()
	h, o := healthy(t)
	all := Examine(t.Context(), &Host{
		System: "openbsd", Running: h.Running, Links: h.Links, Resolve: h.Resolve, Dial: h.Dial, LoadZone: h.LoadZone,
		Route: h.Route,
	}, o)
	if text := lines(all); Failed(all) || !strings.Contains(text, "not checked on openbsd") {
		t.Errorf("found\n%s", text)
	}
}

// Every error of a query is a finding.
func TestExamineReportsQueryErrors(t *testing.T) {
	t.Parallel()
	h, o := healthy(t)
	broken := errors.New("broken")
	h.Kernel = func() (string, error) { return "", broken }
	h.Capabilities = func() (uint64, error) { return 0, broken }
	h.Setting = func(string) (string, error) { return "", broken }
	h.Links = func() ([]Link, error) { return nil, broken }
	h.ClockSynced = func() (bool, error) { return false, broken }
	h.Descriptors = func() (uint64, error) { return 0, broken }
	h.Memory = func() (uint64, error) { return 0, broken }
	text := lines(Examine(t.Context(), h, o))
	for _, check := range []string{"system", "privileges", "forwarding IPv4", "forwarding IPv6", "IPv6", "rp_filter", "routes", "MTU", "clock", "descriptors", "memory"} {
		if !strings.Contains(text, "warn "+check+": not checked: broken") {
			t.Errorf("%s is not said to be unchecked:\n%s", check, text)
		}
	}
}

func lines(all []Finding) string {
	var b strings.Builder
	for _, f := range all {
		fmt.Fprintf(&b, "%s %s: %s -> %s\n", f.Level, f.Check, f.Message, f.Fix)
	}
	return b.String()
}

// A Host may lack all functions that some systems lack.
func TestExamineAcceptsMinimalHost(t *testing.T) {
	t.Parallel()
	h, o := healthy(t)
	host := &Host{System: "plan9", Running: h.Running, Resolve: h.Resolve, Dial: h.Dial}
	if text := lines(Examine(t.Context(), host, o)); !strings.Contains(text, "not checked on plan9") {
		t.Errorf("found\n%s", text)
	}
}
