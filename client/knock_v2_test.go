package client

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/protocol"
)

const (
	testGateway   = "berlin-1"
	testSession16 = "sixteen bytes or"
)

// receiveV2 returns the next udp-v2 knock of the current or the previous slot.
func (d knockSocket) receiveV2(t *testing.T, slot time.Duration) protocol.KnockV2Message {
	t.Helper()
	b := make([]byte, protocol.KnockV2Size+1)
	n, err := d.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	k, err := protocol.ParseKnockV2(b[:n])
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for at := range int64(2) { // a new slot may have begun
		number := protocol.Slot(now, slot) - at
		m, err := k.Open(protocol.NewScratch(), testIdentity(t), testGateway, d.target.Port(), number)
		if err != nil {
			continue
		}
		if age := now.Sub(time.UnixMilli(m.Time)); age < -time.Second || age > testTimeout {
			t.Errorf("the knock is %v old", age)
		}
		return m
	}
	t.Fatal("the knock does not open")
	return protocol.KnockV2Message{}
}

func TestKnockUDPv2Binding(t *testing.T) {
	for _, address := range []string{"127.0.0.1", "::1"} {
		seen := netip.MustParseAddr("192.0.2.7")
		for _, c := range []struct {
			name   string
			dialer Dialer
			want   protocol.KnockV2Message
		}{
			{name: "nothing"},
			{name: "another slot", dialer: Dialer{Slot: 7 * time.Second}},
			{
				name: "where it is sent from", dialer: Dialer{BindSource: true},
				want: protocol.KnockV2Message{Source: netip.MustParseAddr(address)},
			},
			{
				name: "where it is seen to come from", dialer: Dialer{BindSource: true, Source: seen},
				want: protocol.KnockV2Message{Source: seen},
			},
			{
				name: "a port", dialer: Dialer{BindPort: true, Net: net.Dialer{LocalAddr: &net.TCPAddr{Port: 40000}}},
				want: protocol.KnockV2Message{SourcePort: 40000},
			},
		} {
			t.Run(address+" "+c.name, func(t *testing.T) {
				door := newKnockSocket(t, address)
				d, slot := c.dialer, c.dialer.Slot
				if slot == 0 {
					slot = DefaultSlot
				}
				d.Identity, d.Method, d.KnockPort, d.Gateway = testIdentity(t), protocol.MethodUDPv2, door.port, testGateway
				for _, session := range []string{"", testSession16} {
					if err := d.Knock(t.Context(), door.target, []byte(session)); err != nil {
						t.Fatal(err)
					}
					got := door.receiveV2(t, slot)
					want := c.want
					want.Time = got.Time
					copy(want.SessionID[:], session)
					if got != want {
						t.Errorf("got %+v, want %+v", got, want)
					}
				}
			})
		}
	}
}

func TestKnockUDPv2BadOptions(t *testing.T) {
	v2 := protocol.MethodUDPv2
	for name, d := range map[string]Dialer{
		"long gateway name":           {Method: v2, Gateway: strings.Repeat("x", protocol.MaxGateway+1)},
		"a zone":                      {Method: v2, Source: netip.MustParseAddr("fe80::1%eth0")},
		"no address":                  {Method: v2, Source: netip.IPv4Unspecified()},
		"no port":                     {Method: v2, BindPort: true},
		"slot of half a second":       {Method: v2, Slot: time.Second / 2},
		"udp bound to a port":         {BindPort: true},
		"udp bound to its source":     {BindSource: true},
		"tcp-syn bound to an address": {Method: protocol.MethodTCPSYN, Source: netip.MustParseAddr("192.0.2.7")},
	} {
		d.Identity = testIdentity(t)
		if err := d.Knock(t.Context(), netip.MustParseAddrPort("127.0.0.1:22"), nil); !errors.Is(err, ErrOption) {
			t.Errorf("%s: %v", name, err)
		}
	}
	d := Dialer{Identity: testIdentity(t), Method: v2}
	if err := d.Knock(t.Context(), netip.MustParseAddrPort("127.0.0.1:22"), make([]byte, 17)); !errors.Is(err, ErrOption) {
		t.Errorf("a long session id: %v", err)
	}
}

// listenAndKnockSocket opens a TCP port and a socket for its knocks.
func listenAndKnockSocket(t *testing.T) (net.Listener, knockSocket) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	d := newKnockSocket(t, "127.0.0.1")
	d.target = netip.MustParseAddrPort(l.Addr().String())
	return l, d
}

// dialSourcePort connects with d and returns the source port.
func dialSourcePort(t *testing.T, d *Dialer, l net.Listener) uint16 {
	t.Helper()
	conn, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = accepted.Close(), conn.Close()
	return netip.MustParseAddrPort(accepted.RemoteAddr().String()).Port()
}

func TestDialBindPort(t *testing.T) {
	l, door := listenAndKnockSocket(t)
	d := &Dialer{
		Identity: testIdentity(t), Method: protocol.MethodUDPv2, KnockPort: door.port, Gateway: testGateway,
		BindPort: true, NoAuth: true,
	}
	for range 3 {
		port := dialSourcePort(t, d, l)
		for door.receiveV2(t, DefaultSlot).SourcePort != port {
			t.Log("a port was in use, or the connection slow") // and another one was used
		}
	}
}

// fixedPorts is a source of randomness whose reads of four bytes, for source
// ports, are given.
type fixedPorts struct{ ports []uint16 }

func (s *fixedPorts) Read(b []byte) (int, error) {
	if len(b) == 4 {
		if len(s.ports) == 0 {
			return 0, io.ErrUnexpectedEOF
		}
		binary.BigEndian.PutUint32(b, uint32(s.ports[0]-firstSourcePort))
		s.ports = s.ports[1:]
	}
	return len(b), nil
}

// usedPort returns a source port that is in use.
func usedPort(t *testing.T) uint16 {
	t.Helper()
	for port := firstSourcePort; port < firstSourcePort+numSourcePorts; port++ {
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4zero, Port: port})
		if err != nil {
			continue
		}
		t.Cleanup(func() { _ = l.Close() })
		return uint16(port)
	}
	t.Skip("every source port is in use")
	return 0
}

func TestDialBindPortInUse(t *testing.T) {
	l, door := listenAndKnockSocket(t)
	taken, free := usedPort(t), uint16(0)
	for port := taken + 1; free == 0; port++ {
		probe, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4zero, Port: int(port)})
		if err == nil {
			_, free = probe.Close(), port
		}
	}
	d := &Dialer{
		Identity: testIdentity(t), Method: protocol.MethodUDPv2, KnockPort: door.port, Gateway: testGateway,
		BindPort: true, NoAuth: true, Rand: &fixedPorts{ports: []uint16{taken, taken, free}},
	}
	if port := dialSourcePort(t, d, l); port != free {
		t.Errorf("came from port %d", port)
	}
	for _, want := range []uint16{taken, taken, free} {
		if m := door.receiveV2(t, DefaultSlot); m.SourcePort != want {
			t.Errorf("knocked for port %d, want %d", m.SourcePort, want)
		}
	}

	all := make([]uint16, maxPortAttempts)
	for i := range all {
		all[i] = taken
	}
	d.Rand = &fixedPorts{ports: all}
	_, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
	var step *StepError
	if !errors.As(err, &step) || step.Step != "connect" || !isBindError(err) {
		t.Errorf("every port in use: %v", err)
	}
}
