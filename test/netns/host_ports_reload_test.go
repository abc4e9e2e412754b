//go:build linux

package netns_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/knockgw/knockgw/test/netns/lab"
)

// What is hidden of the host itself is hidden before the device is there, with
// rights that the gateway has given up.
func TestReloadDefersHostPorts(t *testing.T) {
	t.Parallel()
	lab.RequireTools(t, "nmap")
	l, site, s, _, all := newHostPorts(t)
	gateway := site.Start(t)
	visits := func(t *testing.T, v lab.Peer) {
		t.Helper()
		for _, d := range all {
			if err := d.visit(t.Context(), v, s.Greeting); err != nil {
				t.Error(err)
			}
		}
	}
	// says runs a command that must end with the code and say all of the words.
	says := func(t *testing.T, code int, command string, words ...string) {
		t.Helper()
		name, args := command, []string(nil)
		if all := strings.Fields(command); len(all) > 1 {
			name, args = all[0], all[1:]
		}
		out, err := site.Knockgw(withTimeout(t, answerTime), name, args...)
		if lab.ExitCode(err) != code {
			t.Errorf("%s ended with %v, want %d:\n%s", command, err, code, out)
		}
		for _, word := range words {
			if !strings.Contains(out, word) {
				t.Errorf("%s does not say %q:\n%s", command, word, out)
			}
		}
	}
	visits(t, alice(l.Client))

	const otherKnocks = knockPort + 1
	udpPort := func(n int) string { return fmt.Sprintf("udp_port: %d", n) }
	t.Run("the port for knocks is not changed beside", func(t *testing.T) {
		change(t, site, udpPort(knockPort), udpPort(otherKnocks))
		remedy := []string{"knock.udp_port", "tun.local", "restart the gateway"}
		says(t, exitConfiguration, "reload", remedy...)
		says(t, exitConfiguration, "reload --dry-run", remedy...)
		says(t, 0, "check", append(remedy, "would reject")...)
		hangUp(t, gateway, refusedWords, 2)
		visits(t, alice(l.Client))
		assertSilent(t, l, all, true)
		change(t, site, udpPort(otherKnocks), udpPort(knockPort))
	})

	later := netip.AddrPortFrom(all[0].listen.Addr(), 24)
	t.Run("a port more waits", func(t *testing.T) {
		const waits = "tun.local changed: waits for a restart"
		change(t, site, "  local: [", fmt.Sprintf("  local: [%q, ", later))
		says(t, 0, "check", waits)
		says(t, 0, "reload --dry-run", waits)
		says(t, 0, "reload", waits)
		says(t, 0, "status", "tun.local")
		endpoint := services(endpoint{name: "later", listen: later, mode: "knock", upstream: s.Addr})
		change(t, site, "services:\n  - name", endpoint+"  - name")
		says(t, exitConfiguration, "reload", "later", "restart the gateway")
		change(t, site, endpoint, "services:\n")
		visits(t, alice(l.Client))
		if got := scanned(t, l.Attacker, later.Addr(), int(later.Port()), "-sS"); got != "closed" {
			t.Errorf("%v is %s before the restart, want closed", later, got)
		}
	})

	t.Run("the next start has both", func(t *testing.T) {
		change(t, site, udpPort(knockPort), udpPort(otherKnocks))
		gateway.Stop()
		site.Start(t)
		v := alice(l.Client)
		v.KnockPort = otherKnocks
		visits(t, v)
		if got := scanned(t, l.Attacker, later.Addr(), int(later.Port()), "-sS"); got != "filtered" {
			t.Errorf("%v is %s after the restart, want filtered", later, got)
		}
	})
}
