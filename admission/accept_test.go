package admission

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/knockgw/knockgw/internal/knock"
)

// admitDatagram hands a packet's payload to the gate as a socket would.
func (h *harness) admitDatagram(b []byte) Verdict {
	h.Helper()
	p := parsed(b)
	v := h.gate.AdmitDatagram(p.Tuple.Source(), p.Tuple.Destination(), p.Data[p.Payload:])
	h.check()
	return v
}

func TestAdmitDatagramMatchesAdmit(t *testing.T) {
	forEachFamily(func(addr string) {
		h := newHarness(t)
		peer := h.peer(addr)
		for _, test := range []struct {
			packet []byte
			want   Reason
		}{
			{peer.knock(alice, "db"), ReasonKnock},
			{peer.junk(), ReasonKnock},
			{peer.udp(testKnockPort, []byte("hello")), ReasonNotKnock},
			{peer.udp(testKnockPort, nil), ReasonNotKnock},
			{peer.udp(testKnockPort, make([]byte, 1<<15)), ReasonNotKnock},
			{peer.udp(53, []byte("hello")), ReasonNotService},
		} {
			if got := h.admitDatagram(test.packet); got.Reason != test.want {
				t.Errorf("%v, want %v", got.Reason, test.want)
			}
		}
		h.decide()
		if len(h.events) != 2 || h.events[0].Result != knock.OK || h.events[1].Result != knock.UnknownClient {
			t.Errorf("%+v", h.events)
		}
	})
}

func TestAdmitConnUsesGrant(t *testing.T) {
	forEachFamily(func(addr string) {
		synctest.Test(t, func(t *testing.T) {
			h := newHarness(t)
			peer := h.peer(addr)
			connect := func(port uint16, service string, want Reason, is error, after time.Duration) {
				t.Helper()
				start := time.Now()
				got, err := h.gate.AdmitConn(t.Context(), peer.tuple(port, service))
				if got.Reason != want || !errors.Is(err, is) || time.Since(start) != after {
					t.Errorf("%s: %v, %v after %v", service, got.Reason, err, time.Since(start))
				}
				h.check()
			}
			connect(1, "db", ReasonNoGrant, ErrNoGrant, reorderGrace)
			connect(1, "web", ReasonOpen, nil, 0)
			connect(2, "vpn", ReasonOpen, nil, 0)
			peer.mustKnock(alice, "db", "")
			connect(3, "vpn", ReasonOpen, nil, 0)
			connect(4, "ssh", ReasonNoGrant, ErrNoGrant, reorderGrace)
			connect(5, "db", ReasonGrant, nil, 0)
			connect(6, "db", ReasonNoGrant, ErrNoGrant, reorderGrace)
			if id := h.gate.Client(peer.tuple(5, "db")); id != alice {
				t.Errorf("admitted as %v", id)
			}
			if id := h.gate.Client(peer.tuple(1, "web")); id != nil {
				t.Errorf("no client yet, but %v", id)
			}
			if h.gate.Client(peer.tuple(6, "db")) != nil || h.flow(peer.tuple(6, "db")) != nil {
				t.Error("who was refused is in the table")
			}
			h.want(peer.junk(), ReasonKnock)
			connect(7, "db", ReasonDeferTimeout, ErrNoGrant, pendingKnockTimeout) // it could have been the one
			h.decide()

			err := h.gate.AuthenticateWithWait(t.Context(), peer.tuple(2, "vpn"), alice, "", func() error { return nil })
			if !errors.Is(err, ErrNoGrant) {
				t.Error(err)
			}
			peer.mustKnock(alice, "vpn", sessionID(1))
			err = h.gate.AuthenticateWithWait(t.Context(), peer.tuple(2, "vpn"), alice, sessionID(1), func() error { return nil })
			if err != nil {
				t.Error(err)
			}
			h.check()
			for port, service := range map[uint16]string{1: "web", 2: "vpn", 3: "vpn", 5: "db"} {
				h.gate.Remove(peer.tuple(port, service))
			}
			h.gate.Drain()
			connect(8, "web", ReasonDraining, ErrRefused, 0)
			if got, err := h.gate.AdmitConn(t.Context(), TupleOf(netip.AddrPortFrom(peer.addr, 9), netip.AddrPortFrom(peer.gateway(), 9))); got.Reason != ReasonNotService || !errors.Is(err, ErrRefused) {
				t.Errorf("%v, %v", got, err)
			}
		})
	})
}

func TestAdmitConnWaitsForKnock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		peer := h.peer("192.0.2.1")
		for _, service := range []string{"db", "vpn"} {
			knock := peer.knock(alice, service)
			done := make(chan error)
			start := time.Now()
			go func() {
				tuple := peer.tuple(40000, service)
				_, err := h.gate.AdmitConn(t.Context(), tuple)
				if err == nil && service == "vpn" {
					err = h.gate.AuthenticateWithWait(t.Context(), tuple, alice, "", func() error { return nil })
				}
				done <- err
			}()
			time.Sleep(100 * time.Millisecond) // nothing has been read yet
			h.want(knock, ReasonKnock)
			h.decide()
			if err := <-done; err != nil || time.Since(start) >= reorderGrace {
				t.Errorf("%s: %v after %v", service, err, time.Since(start))
			}
			h.gate.Remove(peer.tuple(40000, service))
		}
	})
}

func TestAuthenticateWithWaitAwaitsResentKnock(t *testing.T) {
	forEachFamily(func(addr string) {
		synctest.Test(t, func(t *testing.T) {
			h := newHarness(t, func(o *Options) { o.Mono = nil })
			peer := h.peer(addr)
			// A neighbor's grant or an older one admits the SYN.
			peer.mustKnock(alice, "ssh", sessionID(1))
			h.want(peer.syn(1, "ssh"), ReasonGrant)
			if err := h.gate.HandshakeDone(peer.tuple(1, "ssh")); err != nil {
				t.Fatal(err)
			}
			begun, done := time.Now(), make(chan error)
			go func() {
				done <- h.gate.AuthenticateWithWait(t.Context(), peer.tuple(1, "ssh"), alice, sessionID(2), func() error { return nil })
			}()
			const late = testDeadline / 2
			time.Sleep(late)
			peer.mustKnock(alice, "ssh", sessionID(2))
			if err := <-done; err != nil || time.Since(begun) > late+maxPoll {
				t.Errorf("%v after %v", err, time.Since(begun))
			}
			// Without a knock the wait ends before the deadline.
			h.want(peer.syn(2, "ssh"), ReasonGrant)
			if err := h.gate.HandshakeDone(peer.tuple(2, "ssh")); err != nil {
				t.Fatal(err)
			}
			begun = time.Now()
			err := h.gate.AuthenticateWithWait(t.Context(), peer.tuple(2, "ssh"), alice, sessionID(3), func() error { return nil })
			if took := time.Since(begun); !errors.Is(err, ErrNoGrant) || took < testDeadline*3/4 || took >= testDeadline {
				t.Errorf("%v after %v", err, took)
			}
			h.check()
		})
	})
}

func TestAdmitConnEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		peer := h.peer("192.0.2.1")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		start := time.Now()
		if _, err := h.gate.AdmitConn(ctx, peer.tuple(1, "db")); !errors.Is(err, ErrNoGrant) || time.Since(start) != 10*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		h.wantEmpty()
	})
}

func TestBanBlocksSourceWithoutKnock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, func(o *Options) { o.Ban = Ban{After: 1, Within: time.Minute, For: time.Hour} })
		peer := h.peer("192.0.2.1")
		if _, err := h.gate.AdmitConn(t.Context(), peer.tuple(1, "vpn")); err != nil {
			t.Fatal(err)
		}
		h.gate.Failed(peer.tuple(1, "vpn"))
		for _, service := range []string{"vpn", "web"} {
			if got, err := h.gate.AdmitConn(t.Context(), peer.tuple(2, service)); got.Reason != ReasonBanned || !errors.Is(err, ErrRefused) {
				t.Errorf("%s: %v, %v", service, got.Reason, err)
			}
		}
		peer.mustKnock(alice, "vpn", "")
		if got, err := h.gate.AdmitConn(t.Context(), peer.tuple(2, "vpn")); got.Reason != ReasonOpen || err != nil {
			t.Errorf("%v, %v", got.Reason, err)
		}
		h.check()
	})
}

func TestAdmitDatagramAllocatesNothing(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	from, to := netip.AddrPortFrom(peer.addr, 1), netip.AddrPortFrom(peer.gateway(), testKnockPort)
	junk := make([]byte, 100)
	if n := testing.AllocsPerRun(100, func() { h.gate.AdmitDatagram(from, to, junk) }); n > 1 { // the Packet itself
		t.Errorf("%v allocations", n)
	}
}
