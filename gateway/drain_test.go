package gateway_test

import (
	"context"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/gateway"
	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/packet"
)

func withDrainTime(d time.Duration) func(*gateway.Options) {
	return func(o *gateway.Options) { o.DrainTime = d }
}

func TestDrainWaitsForFlows(t *testing.T) {
	h := newHarness(t, true, services(echoUpstream(t)), withDrainTime(timeout))
	conn, err := h.connectAs(alice, clientAddrs[0], modeKnockAuth)
	if err != nil {
		t.Fatal(err)
	}
	h.stop()
	time.Sleep(quietPeriod / 10)
	to := target(clientAddrs[1], modeKnock)
	h.datagram(clientAddrs[1], to, knockFor(alice, to, nil, time.Now()))
	if other, err := h.dial(clientAddrs[1], to, quietPeriod); err == nil {
		t.Error("a new flow during the drain")
		_ = other.Close()
	}
	if n := h.received(clientAddrs[1]); n != 0 {
		t.Errorf("the new client heard %d packets", n)
	}
	start := time.Now()
	_ = conn.Close()
	err = <-h.done
	if took := time.Since(start); took > timeout/2 {
		t.Errorf("the last flow ended, and the gateway %v later", took)
	}
	h.done <- err // for the cleanup
}

func TestDrainWaitsForUnsentData(t *testing.T) {
	h := newHarness(t, true, services(echoUpstream(t)), withDrainTime(timeout))
	conn, err := h.connectAs(alice, clientAddrs[0], modeKnockAuth)
	if err != nil {
		t.Fatal(err)
	}
	h.stop()
	h.exchange(conn, 1<<18)
}

func TestDrainIgnoresUnfinishedHandshake(t *testing.T) {
	h := newHarness(t, true, services(echoUpstream(t)), withDrainTime(quietPeriod))
	for _, port := range []uint16{modeKnock, modeKnockAuth} {
		from, to := netip.MustParseAddrPort("198.51.100.7:40000"), target(clientAddrs[0], port)
		knock := packettest.UDP{Src: from, Dst: netip.AddrPortFrom(to.Addr(), config.DefaultUDPPort), Payload: knockFor(alice, to, newSession(), time.Now())}
		for _, b := range [][]byte{knock.Packet(), packettest.SYN(from, to, 1)} {
			if err := h.wire.Write(packet.Offload{}, [][]byte{b}); err != nil {
				t.Fatal(err)
			}
		}
	}
	time.Sleep(quietPeriod)
	if n := h.received(netip.MustParseAddr("198.51.100.7")); n < 2 {
		t.Fatalf("%d SYN-ACKs", n)
	}
	start := time.Now()
	h.stop()
	select {
	case err := <-h.done:
		h.done <- err
		if took := time.Since(start); took > timeout/2 {
			t.Errorf("the gateway ended after %v", took)
		}
	case <-time.After(timeout):
		t.Error("the gateway goes on")
	}
}

func TestDrainResetsRemainingFlows(t *testing.T) {
	h := newHarness(t, true, services(echoUpstream(t)), withDrainTime(quietPeriod))
	ended := make(map[uint16]chan error)
	for _, port := range []uint16{modeAuth, modeKnock, modeKnockAuth} {
		conn, err := h.connectAs(alice, clientAddrs[0], port)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(timeout))
		end := make(chan error, 1)
		ended[port] = end
		go func() {
			_, err := conn.Read(make([]byte, 1))
			end <- err
		}()
	}
	start := time.Now()
	h.stop()
	err := <-h.done
	if took := time.Since(start); took < quietPeriod || took > timeout/2 {
		t.Errorf("the gateway ended after %v", took)
	}
	h.done <- err
	for port, end := range ended { // before the connections are closed at this end
		if err := <-end; err == nil || err == io.EOF || isTimeout(err) {
			t.Errorf("port %d: not reset: %v", port, err)
		}
	}
}

func TestRunFailsSecondTime(t *testing.T) {
	h := newHarness(t, true, services(echoUpstream(t)))
	if err := h.gw.Run(t.Context()); err == nil {
		t.Error("ran twice")
	}
}

func TestDrainIgnoresUnauthenticatedConnections(t *testing.T) {
	h := newHarness(t, true, services(echoUpstream(t)), withDrainTime(quietPeriod))
	conn, err := h.dial(clientAddrs[0], target(clientAddrs[0], modeAuth), timeout)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	start := time.Now()
	h.stop()
	err = <-h.done
	if took := time.Since(start); took > timeout/2 {
		t.Errorf("the gateway ended after %v", took)
	}
	h.done <- err
}

func TestDrainIgnoresClientWithLostKnock(t *testing.T) {
	slow := strings.ReplaceAll(services(echoUpstream(t)), "deadline: 500ms", "deadline: 10s")
	h := newHarness(t, true, slow, withDrainTime(quietPeriod))
	conn, err := h.dial(clientAddrs[0], target(clientAddrs[0], modeVisible), timeout)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	who := auth.Client{Identity: alice, Port: modeVisible, SessionID: newSession()}
	if err := who.Handshake(context.Background(), conn); err != nil {
		t.Fatal(err)
	}
	time.Sleep(quietPeriod) // so that it waits for its knock
	start := time.Now()
	h.stop()
	err = <-h.done
	if took := time.Since(start); took > timeout/2 {
		t.Errorf("the gateway ended after %v", took)
	}
	h.done <- err
}
