package gateway_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

func inBothFamilies(t *testing.T, f func(t *testing.T, h *harness)) {
	for _, offload := range []bool{false, true} {
		t.Run(fmt.Sprintf("offload=%v", offload), func(t *testing.T) {
			f(t, newHarness(t, offload, services(echoUpstream(t))))
		})
	}
}

func TestGatewayRelaysInAllModes(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, h *harness) {
		for _, home := range clientAddrs {
			for port := uint16(modeAuth); port <= modeVisible; port++ {
				for _, size := range []int{16, 1 << 18} {
					conn, err := h.connectAs(alice, home, port)
					if err != nil {
						t.Fatalf("from %v to port %d: %v", home, port, err)
					}
					h.exchange(conn, size)
				}
			}
		}
	})
}

func TestGatewayDeniesWrongSecret(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, h *harness) {
		var wg sync.WaitGroup
		for _, home := range clientAddrs[1:] {
			for port := uint16(modeAuth); port <= modeVisible; port++ {
				wg.Go(func() {
					if conn, err := h.connectAs(mallory, home, port); err == nil {
						t.Errorf("from %v to port %d: let in", home, port)
						_ = conn.Close()
					}
				})
			}
		}
		wg.Wait()
	})
}

func TestGatewayServesConcurrentKnocks(t *testing.T) {
	for _, offload := range []bool{false, true} {
		// With the time that a busy machine may need to authenticate forty
		// clients.
		h := newHarness(t, offload, strings.ReplaceAll(services(echoUpstream(t)), "deadline: 500ms", "deadline: 10s"))
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				who := []*protocol.Client{alice, bob}[i%2]
				conn, err := h.connectAs(who, clientAddrs[0], modeKnockAuth)
				if err != nil {
					t.Errorf("offload=%v, connection %d: %v", offload, i, err)
					return
				}
				h.exchange(conn, 1<<12)
			})
		}
		wg.Wait()
	}
}

func TestGrantAllowsOneConnectionFromAddress(t *testing.T) {
	h := newHarness(t, true, services(echoUpstream(t)))
	to := target(clientAddrs[0], modeKnock)
	knock := knockFor(alice, to, nil, time.Now())
	stale := knockFor(alice, to, nil, time.Now().Add(-31*time.Second))
	reaches := func(home netip.Addr) bool {
		conn, err := h.dial(home, to, quietPeriod)
		if err == nil {
			h.exchange(conn, 16)
		}
		return err == nil
	}
	for _, c := range []struct {
		name string
		send []byte
		from netip.Addr
		dial netip.Addr
		want bool
	}{
		{"no knock", nil, clientAddrs[0], clientAddrs[0], false},
		{"a stale knock", stale, clientAddrs[0], clientAddrs[0], false},
		{"another address", knock, clientAddrs[0], clientAddrs[1], false},
		{"the knock's address", nil, clientAddrs[0], clientAddrs[0], true},
		{"a second connection", nil, clientAddrs[0], clientAddrs[0], false},
		{"a replay", knock, clientAddrs[0], clientAddrs[0], false},
		{"a replay from elsewhere", knock, clientAddrs[1], clientAddrs[1], false},
	} {
		if c.send != nil {
			h.datagram(c.from, to, c.send)
		}
		if got := reaches(c.dial); got != c.want {
			t.Errorf("%s: reached %v, want %v", c.name, got, c.want)
		}
	}
}

func TestGatewayDeniesOtherSessionID(t *testing.T) {
	h := newHarness(t, true, services(echoUpstream(t)))
	to := target(clientAddrs[0], modeKnockAuth)
	session := newSession()
	h.datagram(clientAddrs[0], to, knockFor(alice, to, session, time.Now()))
	for _, c := range []struct {
		session []byte
		want    bool
	}{{newSession(), false}, {nil, false}, {session, true}} {
		conn, err := h.dial(clientAddrs[0], to, timeout)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		if !c.want { // and hears nothing, for its knock may have been lost
			cancel()
			ctx, cancel = context.WithTimeout(t.Context(), quietPeriod)
		}
		err = (&auth.Client{Identity: alice, Port: modeKnockAuth, SessionID: c.session, Proof: true}).Handshake(ctx, conn)
		cancel()
		if (err == nil) != c.want {
			t.Errorf("session %q: %v", c.session, err)
		}
		_ = conn.Close()
	}
}

func TestGatewayIsSilentToAttackers(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, h *harness) {
		// During a session, and from a subnet without clients.
		conn, err := h.connectAs(alice, clientAddrs[0], modeKnock)
		if err != nil {
			t.Fatal(err)
		}
		attackers := []netip.Addr{netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("2001:db8:1::7")}
		for _, a := range attackers {
			for _, port := range []uint16{modeKnock, modeKnockAuth, 22} {
				for flags := range 64 {
					b := packettest.TCP{
						Src: netip.AddrPortFrom(a, 40000), Dst: target(a, port),
						Flags: uint8(flags), Seq: 1, Ack: 2, Payload: []byte("hello"),
					}.Packet()
					if err := h.wire.Write(packet.Offload{}, [][]byte{b}); err != nil {
						t.Fatal(err)
					}
				}
			}
			for _, kind := range []uint8{3, 8, 13, 1, 2, 128, 135} {
				_ = h.wire.Write(packet.Offload{}, [][]byte{packettest.ICMP{Src: a, Dst: target(a, 1).Addr(), Type: kind, Payload: make([]byte, 40)}.Packet()})
			}
			for _, port := range []uint16{53, modeKnock, modeAuth, 62201} {
				b := packettest.UDP{Src: netip.AddrPortFrom(a, 40000), Dst: target(a, port), Payload: make([]byte, 140)}.Packet()
				_ = h.wire.Write(packet.Offload{}, [][]byte{b})
			}
			// To an open service: segments other than SYNs.
			for flags := range 64 {
				if flags&(packet.SYN|packet.ACK|packet.RST|packet.FIN) != packet.SYN {
					b := packettest.TCP{Src: netip.AddrPortFrom(a, 40000), Dst: target(a, modeAuth), Flags: uint8(flags), Seq: 1, Ack: 2}.Packet()
					_ = h.wire.Write(packet.Offload{}, [][]byte{b})
				}
			}
		}
		h.exchange(conn, 1<<16) // behind all that
		time.Sleep(quietPeriod)
		for _, a := range attackers {
			if n := h.received(a); n != 0 {
				t.Errorf("%v heard %d packets", a, n)
			}
		}
	})
}

// refusingUpstream returns an address without a listener.
func refusingUpstream(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	return ln.Addr().String()
}

func TestGatewayResetsWhenUpstreamRefuses(t *testing.T) {
	h := newHarness(t, true, services(refusingUpstream(t)))
	for _, home := range clientAddrs[1:] {
		start := time.Now()
		conn, err := h.connectAs(alice, home, modeKnock)
		if err == nil {
			t.Error("mode knock: the port looks open")
			_ = conn.Close()
		}
		conn, err = h.connectAs(alice, home, modeKnockAuth)
		if err != nil {
			t.Errorf("authenticate: %v", err)
			continue
		}
		_ = conn.SetDeadline(time.Now().Add(timeout))
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("read from nothing")
		}
		_ = conn.Close()
		if took := time.Since(start); took > timeout/2 {
			t.Errorf("took %v: that was silence", took)
		}
	}
}
