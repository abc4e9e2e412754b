//go:build linux

package netns_test

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	mathrand "math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/netlab"
	"github.com/knockgw/knockgw/internal/testtool"
	"github.com/knockgw/knockgw/protocol"
	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	// mixedPackets is how many packets are sent in all, and mixedLong with
	// testtool.Long.
	mixedPackets = 200_000
	mixedLong    = 10_000_000
	mixedPhases  = 7
	// mixedTime is the most that a phase may take.
	mixedTime = 20 * time.Minute
	// mixedMin is what every phase sends at least, however short it is.
	mixedMin = 1000
)

// mixed makes packets to protected addresses: of everything that we know, and
// broken in every way that a random number finds.
type mixed struct {
	random   *mathrand.Rand
	messages [][]byte // knocks and authentications of a host without a secret
	sent     atomic.Int64
}

func newMixed(t *testing.T) *mixed {
	t.Helper()
	c, err := protocol.NewClient("alice", []byte("not the secret that alice has...."))
	if err != nil {
		t.Fatal(err)
	}
	m := &mixed{random: seeded()}
	now := time.Now().UnixMilli()
	for _, port := range []uint16{22, 8443} {
		knock, err := protocol.AppendKnock(nil, c, port, &protocol.KnockMessage{Method: protocol.MethodUDP, Time: now, SessionID: lab.NewSession()}, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		frame, err := protocol.AppendFrameV1(nil, c, port, &protocol.Message{Time: now, Method: protocol.MethodTCPAuth}, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		m.messages = append(m.messages, knock, frame, make([]byte, protocol.KnockV2Size), nil)
	}
	return m
}

// next writes the next packet.
func (m *mixed) next(b []byte) int {
	m.sent.Add(1)
	r := m.random
	dst := []netip.Addr{netip.MustParseAddr("10.77.0.1"), netip.MustParseAddr("fd77::1"), netip.MustParseAddr("10.77.0.99"), netip.MustParseAddr("fd77::99")}[r.IntN(4)]
	src := []netip.Addr{anySource(r, dst), attackerAddr(dst, 2), attackerAddr(dst, 1)}[r.IntN(3)]
	proto, payload := m.payload(src, dst)
	if r.IntN(4) == 0 { // behind options, extension headers or as a fragment
		proto, payload = m.wrapped(dst, proto, payload)
	}
	n := len(netlab.AppendIP(b[:0], src, dst, proto, payload[:min(len(payload), mixedLargest)]))
	if r.IntN(4) == 0 {
		m.damage(b[:n])
	}
	if r.IntN(8) == 0 {
		n = 1 + r.IntN(n)
	}
	return n
}

// mixedLargest is the largest payload in bytes: with headers it fits a link.
const mixedLargest = 1300

// attackerAddr is the address of a host of the lab, by its number.
func attackerAddr(dst netip.Addr, host byte) netip.Addr {
	if dst.Is4() {
		return netip.AddrFrom4([4]byte{10, 1, host, 2})
	}
	return netip.AddrFrom16([16]byte{0: 0xfd, 1: 1, 3: host, 15: 2})
}

// payload is a segment, a datagram, an ICMP message, or bytes of any protocol.
func (m *mixed) payload(src, dst netip.Addr) (proto byte, payload []byte) {
	r := m.random
	port := []uint16{22, 8443, knockPort, uint16(r.Uint32())}[r.IntN(4)]
	message := m.messages[r.IntN(len(m.messages))]
	switch r.IntN(4) {
	case 0:
		options := make([]byte, 4*r.IntN(11))
		fill(r, options)
		s := lab.Segment{Src: netip.AddrPortFrom(src, uint16(r.Uint32())), Dst: netip.AddrPortFrom(dst, port),
			Seq: r.Uint32(), Ack: r.Uint32(), Flags: byte(r.Uint32()), Options: options, Payload: message}
		packet := s.Append(nil)
		header := 20
		if dst.Is6() {
			header = 40
		}
		return 6, packet[header:]
	case 1:
		d := make([]byte, 8, 8+len(message))
		binary.BigEndian.PutUint16(d, uint16(r.Uint32()))
		binary.BigEndian.PutUint16(d[2:], port)
		d = append(d, message...)
		binary.BigEndian.PutUint16(d[4:], uint16(len(d)))
		if dst.Is6() {
			binary.BigEndian.PutUint16(d[6:], netlab.Checksum(src, dst, 17, d))
		}
		return 17, d
	case 2:
		icmp := make([]byte, 64)
		fill(r, icmp)
		binary.BigEndian.PutUint16(icmp[2:], 0)
		if dst.Is4() {
			binary.BigEndian.PutUint16(icmp[2:], netlab.Checksum(netip.Addr{}, netip.Addr{}, 1, icmp))
			return 1, icmp
		}
		binary.BigEndian.PutUint16(icmp[2:], netlab.Checksum(src, dst, 58, icmp))
		return 58, icmp
	default:
		any := make([]byte, r.IntN(200))
		fill(r, any)
		return byte(r.Uint32()), any
	}
}

// wrapped puts an extension header or a fragment's before a payload, or makes
// of it what looks like one; in IPv4 damage does the same to the header.
func (m *mixed) wrapped(dst netip.Addr, proto byte, payload []byte) (byte, []byte) {
	r := m.random
	if dst.Is4() {
		return proto, payload[r.IntN(len(payload)+1):] // what a later fragment has
	}
	extension := make([]byte, 8*(1+r.IntN(3)))
	fill(r, extension)
	extension[0], extension[1] = proto, byte(len(extension)/8-1)
	return []byte{0, 43, 44, 50, 51, 60, 135}[r.IntN(7)], append(extension, payload...)
}

// damage changes some bytes anywhere but in the addresses; those of an IPv4
// header among them are its length, its options' place and its fragment's.
func (m *mixed) damage(b []byte) {
	r := m.random
	for range 1 + r.IntN(4) {
		at := r.IntN(len(b))
		if b[0]>>4 == 4 && at >= 12 && at < 20 || b[0]>>4 == 6 && at >= 8 && at < 40 || at == 0 {
			at = min(6, len(b)-1)
		}
		b[at] = byte(r.Uint32())
	}
	if b[0]>>4 == 4 && len(b) >= 20 {
		if r.IntN(2) == 0 {
			b[0] = 4<<4 | byte(5+r.IntN(11))
		}
		if header := int(b[0]&15) * 4; header <= len(b) {
			b[10], b[11] = 0, 0
			binary.BigEndian.PutUint16(b[10:], netlab.Checksum(netip.Addr{}, netip.Addr{}, 0, b[:header]))
		}
	}
}

func fill(r *mathrand.Rand, b []byte) {
	for i := range b {
		b[i] = byte(r.Uint32())
	}
}

// Whatever a host sends, in whatever state the gateway is, no packet comes from
// a protected address, to anywhere.
func TestMixedPacketsGetNoAnswer(t *testing.T) {
	l := lab.New(t)
	l.AnySource()
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	// What tells that the host is up after its boot.
	l.Gateway.ServeLines("[::]:23")
	own := ownEndpoints(s.Addr) // and what hides ports of the host itself
	l.TUN = "  local: [\"10.1.3.1:22\", \"[fd01:3::1]:22\"]\n"
	all := append(own, hiddenEndpoints(s.Addr)...)
	site := l.NewSite(t, program.get(t), configuration(all...))
	gateway := site.Start(t)
	knockgwHold(t, l.Gateway, site, "--save")
	total := int64(mixedPackets)
	if testtool.Long() {
		total = mixedLong
	}
	m := newMixed(t)
	phase := func(name string, do func()) {
		t.Helper()
		quiet(t, l, m, name, total/mixedPhases, do)
	}
	phase("running", func() {})
	phase("reloading", func() {
		for range 5 {
			if out, err := site.Knockgw(t.Context(), "reload"); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		}
	})
	phase("stopping and starting", func() {
		gateway.Stop()
		gateway = site.Start(t)
	})
	phase("crashing", gateway.Kill)
	phase("starting after a crash", func() { gateway = site.Start(t) })
	gateway.Stop()
	boot := unboot(t, l)
	phase("booting", func() {
		knockgwHold(t, l.Gateway, site)
		boot(func() {})
	})
	phase("starting after a boot", func() { site.Start(t) })
	for _, d := range all { // and the gateway works
		if err := d.visit(t.Context(), alice(l.Client), s.Greeting); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d packets were sent", m.sent.Load())
}

// quiet floods while do runs, and continues until enough packets were sent; it
// fails the test if one packet left the gateway's host with a protected source.
func quiet(t *testing.T, l *lab.Lab, m *mixed, name string, packets int64, do func()) {
	t.Helper()
	var captures []*lab.Capture
	for _, link := range []string{"client0", "attacker0", "upstream0"} {
		captures = append(captures, l.Gateway.CaptureAnswers(link))
	}
	ctx, stop := context.WithTimeout(t.Context(), mixedTime)
	defer stop()
	var flooding sync.WaitGroup
	flooding.Go(func() {
		if _, err := l.Attacker.FloodFrames(ctx, l.Gateway, m.next, 0); err != nil {
			t.Error(err)
		}
	})
	before := m.sent.Load()
	do()
	for ctx.Err() == nil && m.sent.Load()-before < packets {
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	flooding.Wait()
	for _, c := range captures {
		for i, p := range c.Stop() {
			if i < 3 {
				t.Errorf("%s: a protected address has answered:\n%v", name, p)
			}
		}
	}
	if sent := m.sent.Load() - before; sent < mixedMin {
		t.Errorf("%s: silence proves nothing: only %d packets were sent", name, sent)
	}
}
