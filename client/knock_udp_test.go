package client

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/knockgw/knockgw/protocol"
)

const (
	testSession = "a session of ours"
	testGap     = 2 * time.Millisecond
	testTimeout = 5 * time.Second
)

// knockSocket is a UDP socket that receives knocks for a service at its address.
type knockSocket struct {
	*net.UDPConn
	target netip.AddrPort
	port   uint16
}

func newKnockSocket(t *testing.T, address string) knockSocket {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(address)})
	if err != nil {
		t.Skipf("listen on %s: %v", address, err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetReadDeadline(time.Now().Add(testTimeout)); err != nil {
		t.Fatal(err)
	}
	port := conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	return knockSocket{conn, netip.AddrPortFrom(netip.MustParseAddr(address), 22), port}
}

// receive returns the next knock and its source.
func (d knockSocket) receive(t *testing.T, port uint16) (m protocol.KnockMessage, nonce []byte, from netip.AddrPort) {
	t.Helper()
	b := make([]byte, protocol.MaxKnock+1)
	n, from, err := d.ReadFromUDPAddrPort(b)
	if err != nil {
		t.Fatal(err)
	}
	k, err := protocol.ParseKnock(b[:n])
	if err != nil {
		t.Fatal(err)
	}
	s := protocol.NewScratch()
	if !k.Match(s, testIdentity(t), port) {
		t.Fatal("the knock is not for this client and port")
	}
	if m, err = k.Open(s, testIdentity(t), port); err != nil {
		t.Fatal(err)
	}
	return m, k.Nonce(), from
}

func TestKnockUDPMethods(t *testing.T) {
	for _, address := range []string{"127.0.0.1", "::1"} {
		for _, c := range []struct {
			method, says  string
			length, parts int
		}{
			{"", "udp", 0, 1},
			{"udp", "udp", 5, 1},
			{"udp-passive", "udp-passive", 0, 1},
			{"udp-seq", "udp-seq", 0, 3},
			{"udp-seq", "udp-seq", 2, 2},
			{"udp-seq", "udp-seq", 8, 8},
			{"udp-passive-seq", "udp-passive-seq", 0, 3},
			{"udp-passive-sequence", "udp-passive-seq", 4, 4},
		} {
			t.Run(address+" "+c.method, func(t *testing.T) {
				door := newKnockSocket(t, address)
				d := &Dialer{
					Identity: testIdentity(t), Method: c.method, KnockPort: door.port, Port: 8443,
					Sequence: Sequence{Length: c.length, Gap: testGap},
				}
				began := time.Now()
				if err := d.Knock(t.Context(), door.target, []byte(testSession)); err != nil {
					t.Fatal(err)
				}
				took := time.Since(began)
				if least := time.Duration(c.parts-1) * testGap; took < least {
					t.Errorf("took %v, which is less than the gaps' %v", took, least)
				}
				nonces := map[string]bool{}
				var first protocol.KnockMessage
				var source netip.AddrPort
				for i := range c.parts {
					m, nonce, from := door.receive(t, 8443)
					nonces[string(nonce)] = true
					if i == 0 {
						first, source = m, from
					}
					total := c.parts
					if total == 1 {
						total = 0
					}
					if m.Method != c.says || string(m.SessionID) != testSession ||
						int(m.Index) != i || int(m.Total) != total || !bytes.Equal(m.SequenceID, first.SequenceID) {
						t.Errorf("part %d of %d is %+v", i, c.parts, m)
					}
					if from != source {
						t.Errorf("part %d came from %v, the first from %v", i, from, source)
					}
				}
				if len(nonces) != c.parts {
					t.Errorf("%d parts have %d nonces", c.parts, len(nonces))
				}
			})
		}
	}
}

func TestKnockUDPSequenceIDUnique(t *testing.T) {
	door := newKnockSocket(t, "127.0.0.1")
	d := &Dialer{
		Identity: testIdentity(t), Method: protocol.MethodUDPSeq, KnockPort: door.port,
		Sequence: Sequence{Length: 2, Gap: testGap},
	}
	ids := map[string]bool{}
	for range 2 {
		if err := d.Knock(t.Context(), door.target, nil); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			m, _, _ := door.receive(t, 22)
			ids[string(m.SequenceID)] = true
		}
	}
	if len(ids) != 2 {
		t.Errorf("two sequences had %d ids", len(ids))
	}
}

func TestKnockSourceAddress(t *testing.T) {
	for _, local := range []string{"127.0.0.1", "127.0.0.9"} {
		door := newKnockSocket(t, "127.0.0.1")
		d := &Dialer{Identity: testIdentity(t), KnockPort: door.port}
		d.Net.LocalAddr = &net.TCPAddr{IP: net.ParseIP(local), Port: 1}
		if err := d.Knock(t.Context(), door.target, nil); err != nil {
			t.Skipf("knock from %s: %v", local, err)
		}
		if _, _, from := door.receive(t, 22); from.Addr() != netip.MustParseAddr(local) {
			t.Errorf("came from %v, want %s", from, local)
		}
	}
}

func TestKnockIPv4MappedAddress(t *testing.T) {
	door := newKnockSocket(t, "127.0.0.1")
	d := &Dialer{Identity: testIdentity(t), KnockPort: door.port}
	mapped := netip.AddrPortFrom(netip.AddrFrom16(door.target.Addr().As16()), 22)
	if err := d.Knock(t.Context(), mapped, nil); err != nil {
		t.Fatal(err)
	}
	door.receive(t, 22)
}

func TestKnockBadOptions(t *testing.T) {
	for _, c := range []struct {
		name, method string
		slot         time.Duration
		sequence     Sequence
	}{
		{name: "no method", method: "knock-knock"},
		{name: "a method without a knock", method: "tcp-auth"},
		{name: "one part by UDP", method: "udp-seq", sequence: Sequence{Length: 1}},
		{name: "nine parts by UDP", method: "udp-passive-seq", sequence: Sequence{Length: 9}},
		{name: "fewer than no parts", method: "udp-seq", sequence: Sequence{Length: -3}},
		{name: "time backwards", method: "udp-seq", sequence: Sequence{Gap: -1}},
		{name: "one part by SYN", method: "tcp-syn-seq", sequence: Sequence{Length: 1}},
		{name: "six parts by SYN", method: "tcp-syn-seq", sequence: Sequence{Length: 6}},
		{name: "half a second", method: "tcp-syn", slot: time.Second / 2},
		{name: "a second and a half", method: "tcp-syn", slot: 3 * time.Second / 2},
		{name: "a slot that will not be", method: "tcp-syn", slot: -time.Second},
		{name: "half a second of a sequence", method: "tcp-syn-seq", sequence: Sequence{Slot: time.Second / 2}},
		{name: "more than a slot", method: "tcp-syn-seq", sequence: Sequence{Slot: time.Second, Gap: 400 * time.Millisecond}},
	} {
		d := &Dialer{Identity: testIdentity(t), Method: c.method, Slot: c.slot, Sequence: c.sequence}
		err := d.Knock(t.Context(), netip.MustParseAddrPort("127.0.0.1:22"), nil)
		if !errors.Is(err, ErrOption) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
