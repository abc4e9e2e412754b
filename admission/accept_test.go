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

// datagram hands a packet's payload to the gate as a socket would.
func (w *harness) datagram(b []byte) Verdict {
	w.Helper()
	p := parsed(b)
	v := w.gate.AdmitDatagram(p.Tuple.Source(), p.Tuple.Destination(), p.Data[p.Payload:])
	w.check()
	return v
}

func TestAdmitDatagramMatchesAdmit(t *testing.T) {
	everywhere(func(addr string) {
		w := newHarness(t)
		v := w.at(addr)
		for _, test := range []struct {
			packet []byte
			want   Reason
		}{
			{v.knock(alice, "db"), ReasonKnock},
			{v.junk(), ReasonKnock},
			{v.udp(testKnockPort, []byte("hello")), ReasonNotKnock},
			{v.udp(testKnockPort, nil), ReasonNotKnock},
			{v.udp(testKnockPort, make([]byte, 1<<15)), ReasonNotKnock},
			{v.udp(53, []byte("hello")), ReasonNotService},
		} {
			if got := w.datagram(test.packet); got.Reason != test.want {
				t.Errorf("%v, want %v", got.Reason, test.want)
			}
		}
		w.decide()
		if len(w.events) != 2 || w.events[0].Result != knock.OK || w.events[1].Result != knock.UnknownClient {
			t.Errorf("%+v", w.events)
		}
	})
}

func TestAdmitConnUsesGrant(t *testing.T) {
	everywhere(func(addr string) {
		synctest.Test(t, func(t *testing.T) {
			w := newHarness(t)
			v := w.at(addr)
			connect := func(port uint16, service string, want Reason, is error, after time.Duration) {
				t.Helper()
				start := time.Now()
				got, err := w.gate.AdmitConn(t.Context(), v.tuple(port, service))
				if got.Reason != want || !errors.Is(err, is) || time.Since(start) != after {
					t.Errorf("%s: %v, %v after %v", service, got.Reason, err, time.Since(start))
				}
				w.check()
			}
			connect(1, "db", ReasonNoGrant, ErrNoGrant, reorderGrace)
			connect(1, "web", ReasonOpen, nil, 0)
			connect(2, "vpn", ReasonOpen, nil, 0)
			v.knocks(alice, "db", "")
			connect(3, "vpn", ReasonOpen, nil, 0)
			connect(4, "ssh", ReasonNoGrant, ErrNoGrant, reorderGrace)
			connect(5, "db", ReasonGrant, nil, 0)
			connect(6, "db", ReasonNoGrant, ErrNoGrant, reorderGrace)
			if id := w.gate.Client(v.tuple(5, "db")); id != alice {
				t.Errorf("let in as %v", id)
			}
			if id := w.gate.Client(v.tuple(1, "web")); id != nil {
				t.Errorf("no client yet, but %v", id)
			}
			if w.gate.Client(v.tuple(6, "db")) != nil || w.flow(v.tuple(6, "db")) != nil {
				t.Error("who was refused is in the table")
			}
			w.want(v.junk(), ReasonKnock)
			connect(7, "db", ReasonDeferTimeout, ErrNoGrant, pendingKnockTimeout) // it could have been the one
			w.decide()

			err := w.gate.AuthenticateWithWait(t.Context(), v.tuple(2, "vpn"), alice, "", func() error { return nil })
			if !errors.Is(err, ErrNoGrant) {
				t.Error(err)
			}
			v.knocks(alice, "vpn", sessionID(1))
			err = w.gate.AuthenticateWithWait(t.Context(), v.tuple(2, "vpn"), alice, sessionID(1), func() error { return nil })
			if err != nil {
				t.Error(err)
			}
			w.check()
			for port, service := range map[uint16]string{1: "web", 2: "vpn", 3: "vpn", 5: "db"} {
				w.gate.Remove(v.tuple(port, service))
			}
			w.gate.Drain()
			connect(8, "web", ReasonDraining, ErrRefused, 0)
			if got, err := w.gate.AdmitConn(t.Context(), TupleOf(netip.AddrPortFrom(v.addr, 9), netip.AddrPortFrom(v.gateway(), 9))); got.Reason != ReasonNotService || !errors.Is(err, ErrRefused) {
				t.Errorf("%v, %v", got, err)
			}
		})
	})
}

func TestAdmitConnWaitsForKnock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newHarness(t)
		v := w.at("192.0.2.1")
		for _, service := range []string{"db", "vpn"} {
			knock := v.knock(alice, service)
			done := make(chan error)
			start := time.Now()
			go func() {
				tuple := v.tuple(40000, service)
				_, err := w.gate.AdmitConn(t.Context(), tuple)
				if err == nil && service == "vpn" {
					err = w.gate.AuthenticateWithWait(t.Context(), tuple, alice, "", func() error { return nil })
				}
				done <- err
			}()
			time.Sleep(100 * time.Millisecond) // nothing has been read yet
			w.want(knock, ReasonKnock)
			w.decide()
			if err := <-done; err != nil || time.Since(start) >= reorderGrace {
				t.Errorf("%s: %v after %v", service, err, time.Since(start))
			}
			w.gate.Remove(v.tuple(40000, service))
		}
	})
}

func TestAuthenticateWithWaitAwaitsResentKnock(t *testing.T) {
	everywhere(func(addr string) {
		synctest.Test(t, func(t *testing.T) {
			w := newHarness(t, func(o *Options) { o.Mono = nil })
			v := w.at(addr)
			// A neighbour's grant, or one left over, lets the SYN in.
			v.knocks(alice, "ssh", sessionID(1))
			w.want(v.syn(1, "ssh"), ReasonGrant)
			if err := w.gate.HandshakeDone(v.tuple(1, "ssh")); err != nil {
				t.Fatal(err)
			}
			begun, done := time.Now(), make(chan error)
			go func() {
				done <- w.gate.AuthenticateWithWait(t.Context(), v.tuple(1, "ssh"), alice, sessionID(2), func() error { return nil })
			}()
			const late = testDeadline / 2
			time.Sleep(late)
			v.knocks(alice, "ssh", sessionID(2))
			if err := <-done; err != nil || time.Since(begun) > late+maxPoll {
				t.Errorf("%v after %v", err, time.Since(begun))
			}
			// And where none comes it ends before its deadline.
			w.want(v.syn(2, "ssh"), ReasonGrant)
			if err := w.gate.HandshakeDone(v.tuple(2, "ssh")); err != nil {
				t.Fatal(err)
			}
			begun = time.Now()
			err := w.gate.AuthenticateWithWait(t.Context(), v.tuple(2, "ssh"), alice, sessionID(3), func() error { return nil })
			if took := time.Since(begun); !errors.Is(err, ErrNoGrant) || took < testDeadline*3/4 || took >= testDeadline {
				t.Errorf("%v after %v", err, took)
			}
			w.check()
		})
	})
}

func TestAdmitConnEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newHarness(t)
		v := w.at("192.0.2.1")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		start := time.Now()
		if _, err := w.gate.AdmitConn(ctx, v.tuple(1, "db")); !errors.Is(err, ErrNoGrant) || time.Since(start) != 10*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		w.empty()
	})
}

func TestBanBlocksSourceWithoutKnock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newHarness(t, func(o *Options) { o.Ban = Ban{After: 1, Within: time.Minute, For: time.Hour} })
		v := w.at("192.0.2.1")
		if _, err := w.gate.AdmitConn(t.Context(), v.tuple(1, "vpn")); err != nil {
			t.Fatal(err)
		}
		w.gate.Failed(v.tuple(1, "vpn"))
		for _, service := range []string{"vpn", "web"} {
			if got, err := w.gate.AdmitConn(t.Context(), v.tuple(2, service)); got.Reason != ReasonBanned || !errors.Is(err, ErrRefused) {
				t.Errorf("%s: %v, %v", service, got.Reason, err)
			}
		}
		v.knocks(alice, "vpn", "")
		if got, err := w.gate.AdmitConn(t.Context(), v.tuple(2, "vpn")); got.Reason != ReasonOpen || err != nil {
			t.Errorf("%v, %v", got.Reason, err)
		}
		w.check()
	})
}

func TestAdmitDatagramAllocatesNothing(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	from, to := netip.AddrPortFrom(v.addr, 1), netip.AddrPortFrom(v.gateway(), testKnockPort)
	junk := make([]byte, 100)
	if n := testing.AllocsPerRun(100, func() { w.gate.AdmitDatagram(from, to, junk) }); n > 1 { // the Packet itself
		t.Errorf("%v allocations", n)
	}
}
