//go:build linux

package netns_test

import (
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/doctor"
	"github.com/knockgw/knockgw/test/netns/lab"
)

// What doctor says to type is typed, as it stands, and then the finding is gone
// and clients are admitted.
func TestDoctorFixesWork(t *testing.T) {
	t.Parallel()
	lab.RequireTools(t, "nft", "iptables")
	for name, c := range map[string]struct {
		hurt  string // commands on the gateway
		check string
		level doctor.Level
		says  string
		shut  bool // no client is admitted before
	}{
		"no forwarding":         {hurt: "sysctl -w net.ipv4.ip_forward=0", check: "forwarding IPv4", level: doctor.Fail, says: "off", shut: true},
		"no forwarding of IPv6": {hurt: "sysctl -w net.ipv6.conf.all.forwarding=0", check: "forwarding IPv6", level: doctor.Fail, says: "off", shut: true},
		"strict sources":        {hurt: "sysctl -w net.ipv4.conf.all.rp_filter=1", check: "rp_filter", level: doctor.Warn, says: "client0"},
		"a policy to drop": {hurt: `nft 'add table inet f; add chain inet f forward { type filter hook forward priority 0; policy drop; }; add rule inet f forward ct state established accept'`,
			check: "firewall", level: doctor.Warn, says: "inet f forward drops", shut: true},
		"a rule that rejects": {hurt: `nft 'add table inet f; add chain inet f forward { type filter hook forward priority 0; }; add rule inet f forward tcp dport 8443 accept; add chain inet f more; add rule inet f more reject with icmpx admin-prohibited; add rule inet f forward jump more'`,
			check: "firewall", level: doctor.Warn, says: "inet f forward rejects", shut: true},
		"iptables that drop":   {hurt: "iptables -P FORWARD DROP", check: "firewall", level: doctor.Warn, says: "ip filter FORWARD drops", shut: true},
		"iptables that reject": {hurt: "iptables -A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT && iptables -A FORWARD -j REJECT", check: "firewall", level: doctor.Warn, says: "ip filter FORWARD rejects", shut: true},
		"all sources masqueraded": {hurt: `nft 'add table ip n; add chain ip n post { type nat hook postrouting priority 100; }; add rule ip n post masquerade'`,
			check: "firewall", level: doctor.Warn, says: "changes the source"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, site, s, all := site(t)
			l.Gateway.MustRun("sh", "-ec", c.hurt)
			site.Start(t)
			visits := func(most time.Duration) error {
				for _, d := range all {
					if err := d.visit(withTimeout(t, most), alice(l.Client), s.Greeting); err != nil {
						return err
					}
				}
				return nil
			}
			code := 0
			if c.level == doctor.Fail {
				code = 1
			}
			f := diagnosis(t, site, code)[c.check]
			if f.Level != c.level || !strings.Contains(f.Message, c.says) {
				t.Fatalf("it says %+v, want %s and %q", f, c.level, c.says)
			}
			if c.shut {
				if err := visits(refuseTime); err == nil {
					t.Error("it is not in the way")
				}
			}
			l.Gateway.MustRun("sh", "-ec", f.Fix)
			if f := diagnosis(t, site, 0)[c.check]; f.Level != doctor.OK {
				t.Errorf("after what it said was typed: %+v", f)
			}
			if err := visits(admitTime); err != nil {
				t.Error(err)
			}
		})
	}
}
