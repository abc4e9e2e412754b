//go:build linux

package netns_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/testtool"
	"github.com/knockgw/knockgw/protocol"
	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	junkFlood      = 5000 // knocks a second that are none
	junkNewcomers  = 12
	junkPopulation = 1000 // clients of the gateway
)

// junkV1 makes what passes for a knock v1 until a secret is tried on it, from
// one source or from any.
func junkV1(from netip.Addr, to netip.AddrPort, random *rand.Rand) func(b []byte) int {
	const sealed, udpHeader, ipHeader = 90, 8, 20
	return func(b []byte) int {
		src := from
		if !src.IsValid() {
			src = anySource(random, to.Addr())
		}
		size := ipHeader + udpHeader + protocol.KnockHeader + sealed
		clear(b[:ipHeader+udpHeader])
		b[0], b[8], b[9] = 4<<4|ipHeader/4, 64, 17
		binary.BigEndian.PutUint16(b[4:], uint16(random.Uint32()))
		copy(b[12:], src.AsSlice())
		copy(b[16:], to.Addr().AsSlice())
		h := b[ipHeader:size]
		binary.BigEndian.PutUint16(h, uint16(1024+random.IntN(60_000)))
		binary.BigEndian.PutUint16(h[2:], to.Port())
		binary.BigEndian.PutUint16(h[4:], uint16(len(h))) // without a checksum, which UDP allows
		payload := h[udpHeader:]
		for i := range payload {
			payload[i] = byte(random.Uint32())
		}
		binary.BigEndian.PutUint16(payload[24:], sealed)
		payload[26], payload[27] = 2, 0
		return size
	}
}

// Junk that looks like knocks v1, from any address or from a client's own,
// leaves knocks udp-v2 alone: those of newcomers and those of known addresses.
func TestJunkKnocksV1LeaveUDPv2Alone(t *testing.T) {
	testtool.RequireLong(t, "floods for 10 s")
	withEachFilter(t, func(t *testing.T, l *lab.Lab) {
		distant(t, l, nil)
		r := recordUpstream(t, l)
		d := hiddenAt("10.77.0.1:22", "knock-auth", r.addr, protocol.MethodUDP, protocol.MethodUDPv2)
		var text strings.Builder
		text.WriteString("knock: {udp_port: 62201, gateway: " + gatewayName + "}\nclients:\n")
		fmt.Fprintf(&text, "  - {id: alice, secret: %q}\n", aliceSecret)
		for i := range junkPopulation {
			fmt.Fprintf(&text, "  - {id: client-%d, secret: \"the secret of client %d\"}\n", i, i)
		}
		text.WriteString(services(d))
		l.NewSite(t, program.get(t), text.String()).Start(t)
		knocks := netip.AddrPortFrom(d.listen.Addr(), knockPort)
		dialer := attackedDialer(t, l, d, protocol.MethodUDPv2)
		before := medianAdmission(t, dialer, d, r.greeting, junkNewcomers)
		var newcomers, known time.Duration
		during(t, l, knocks.Addr(), junkV1(netip.Addr{}, knocks, seeded()), junkFlood, func() {
			for i := range junkNewcomers { // each from an address that has never been here
				from := netip.AddrFrom4([4]byte{10, 1, 9, byte(100 + i)})
				l.Client.MustRun("ip", "addr", "add", from.String()+"/32", "dev", "far4")
				newcomers += medianAdmission(t, dialerFrom(dialer, from), d, r.greeting, 1) / junkNewcomers
			}
		})
		during(t, l, knocks.Addr(), junkV1(farAddr4, knocks, seeded()), junkFlood, func() {
			known = medianAdmission(t, dialer, d, r.greeting, junkNewcomers)
		})
		t.Logf("median %v, of newcomers %v (mean), of a forged address %v", before, newcomers, known)
		if max(newcomers, known) > before+attackSlack {
			t.Errorf("junk delays clients: median %v, of newcomers %v (mean), of a forged address %v", before, newcomers, known)
		}
	})
}
