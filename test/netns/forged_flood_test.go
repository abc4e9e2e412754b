//go:build linux

package netns_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/knockgw/knockgw/protocol"
	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	// openDoors is how many open services the SYNs are for: with their queues' sizes
	// together they could take all of the table of flows, which has room for 131,072.
	openDoors = 8
	openFloodSYNs = 131_500
	// openFloodRate is what a small server sends, in SYNs a second.
	openFloodRate = 20_000
	// openFloodVisits is how often clients come with each method, during the flood and
	// again after it.
	openFloodVisits = 6
)

// SYNs of sources that do not exist, as many as there are places for flows, leave
// clients of a hidden service their places.
func TestAFloodAtOpenServicesKeepsNoClientFromAHiddenOne(t *testing.T) {
	withEachFilter(t, func(t *testing.T, l *lab.Lab) {
		distant(t, l, nil)
		r := recordUpstream(t, l)
		var doors []door
		for i := range openDoors {
			doors = append(doors, door{name: fmt.Sprintf("open-%d", i), mode: "auth", upstream: r.addr,
				listen: netip.AddrPortFrom(netip.MustParseAddr("10.77.0.1"), uint16(9001+i))})
		}
		hidden := hiddenAt("10.77.0.2:22", "knock-auth", r.addr, protocol.MethodUDP, protocol.MethodUDPv2, protocol.MethodTCPSYN)
		l.NewSite(t, program.get(t), attackText("", append(doors, hidden)...)).Start(t)
		visits := func() time.Duration {
			var all time.Duration
			for _, method := range []string{protocol.MethodUDP, protocol.MethodUDPv2} {
				all = max(all, getsIn(t, attackedDialer(t, l, hidden, method), hidden, r.greeting, openFloodVisits))
			}
			person := newPerson(t, l.Client, "alice", aliceSecret)
			if out, err := person.connect(soon(t, admitTime), hidden.listen, "hello", "--method", protocol.MethodTCPSYN, "--proof", "--knock-port", fmt.Sprint(knockPort)); err != nil || !strings.Contains(out, r.greeting) {
				t.Errorf("by %s: %v\n%s", protocol.MethodTCPSYN, err, out)
			}
			return all
		}
		before := visits()
		var sent atomic.Int64
		random := seeded()
		next := func(b []byte) int {
			d := doors[sent.Add(1)%openDoors]
			src := netip.AddrPortFrom(anySource(random, d.listen.Addr()), uint16(1024+random.IntN(60_000)))
			s := lab.Segment{Src: src, Dst: d.listen, Seq: random.Uint32(), Flags: lab.SYN, Options: []byte{2, 4, 5, 180}}
			return len(s.Append(b[:0]))
		}
		var under time.Duration
		during(t, l, doors[0].listen.Addr(), next, openFloodRate, func() {
			for sent.Load() < openFloodSYNs && !t.Failed() {
				under = max(under, visits())
			}
		})
		after := visits()
		r.onlyClients(t)
		t.Logf("median %v, during %d SYNs %v, after them %v", before, sent.Load(), under, after)
		if max(under, after) > before+attackSlack {
			t.Errorf("clients had to wait: median %v, during the flood %v, after it %v", before, under, after)
		}
	})
}

const (
	junkFlood      = 5000 // knocks a second that are none
	junkNewcomers  = 12
	junkPopulation = 1000 // clients of the gateway
)

// junkV1 makes what passes for a knock v1 until a secret is tried on it, from one
// source or from any.
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

// Junk that looks like knocks v1, whether of anybody or of a client's own address,
// leaves knocks udp-v2 alone: those of newcomers and those of known addresses.
func TestJunkKnocksV1LeaveUDPv2Alone(t *testing.T) {
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
		before := getsIn(t, dialer, d, r.greeting, junkNewcomers)
		var newcomers, known time.Duration
		during(t, l, knocks.Addr(), junkV1(netip.Addr{}, knocks, seeded()), junkFlood, func() {
			for i := range junkNewcomers { // each from an address that has never been here
				from := netip.AddrFrom4([4]byte{10, 1, 9, byte(100 + i)})
				l.Client.MustRun("ip", "addr", "add", from.String()+"/32", "dev", "far4")
				newcomers += getsIn(t, dialerFrom(dialer, from), d, r.greeting, 1) / junkNewcomers
			}
		})
		during(t, l, knocks.Addr(), junkV1(farAddr4, knocks, seeded()), junkFlood, func() {
			known = getsIn(t, dialer, d, r.greeting, junkNewcomers)
		})
		t.Logf("median %v, of newcomers %v (mean), of a forged address %v", before, newcomers, known)
		if max(newcomers, known) > before+attackSlack {
			t.Errorf("junk delays clients: median %v, of newcomers %v (mean), of a forged address %v", before, newcomers, known)
		}
	})
}
