//go:build linux

package netns_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/knockgw/knockgw/test/netns/lab"
)

// applianceCommands are those of the manual, which end with the fence.
var applianceCommands = regexp.MustCompile("(?s)<!-- appliance -->\n```sh\n(.*?)```")

func TestApplianceAsDocumented(t *testing.T) {
	t.Parallel()
	manual, err := os.ReadFile("../../docs/host-modes.md")
	if err != nil {
		t.Fatal(err)
	}
	commands := applianceCommands.FindSubmatch(manual)
	if commands == nil {
		t.Fatal("the manual has no commands")
	}
	l, site, s, all := site(t)
	// The name is one for the whole machine, in which other tests may run.
	name := fmt.Sprintf("appliance-%d", os.Getpid())
	l.Gateway.MustRun("sh", "-ec", strings.ReplaceAll(string(commands[1]), "appliance", name))
	removed := false
	remove := func() {
		if !removed {
			removed = true
			if out, err := l.Gateway.Run(context.Background(), "ip", "netns", "del", name); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		}
	}
	t.Cleanup(remove)
	gateway := l.Gateway.Start("ip", append([]string{"netns", "exec", name}, site.Run()...)...)
	waitLog(t, gateway, admitTime, "msg=ready")
	for _, d := range all {
		if err := d.visit(t.Context(), alice(l.Client), s.Greeting); err != nil {
			t.Error(err)
		}
	}
	if links := l.Gateway.MustRun("ip", "link"); strings.Contains(links, lab.Tunnel) {
		t.Errorf("the device is on the host:\n%s", links)
	}
	quiet := func(when string) {
		t.Helper()
		for _, d := range all {
			if !d.hidden() {
				continue
			}
			capture := l.Attacker.Capture(lab.Link)
			d.assertShut(t, lab.Peer{Host: l.Attacker}, nil)
			packets := capture.Stop()
			l.Attacker.Silent(packets)
			if lab.Sent(packets, l.Attacker.Addr(d.listen.Addr()), netip.PrefixFrom(d.listen.Addr(), d.listen.Addr().BitLen())) == 0 {
				t.Errorf("%s: silence proves nothing: no packet was sent", when)
			}
		}
	}
	quiet("while it runs")
	gateway.Kill()
	quiet("after a crash")
	remove()
	quiet("after the namespace is gone")
}
