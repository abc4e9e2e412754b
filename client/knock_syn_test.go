package client

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/knockgw/knockgw/protocol"
)

// packetRecorder is a packetWriter that records the packets.
type packetRecorder struct {
	t    *testing.T
	sent []synPacket
	to   []string
	at   []time.Time
}

func (w *packetRecorder) WriteTo(packet []byte, to net.Addr) (int, error) {
	w.sent = append(w.sent, parseSYN(w.t, packet))
	w.to = append(w.to, to.String())
	w.at = append(w.at, time.Now())
	return len(packet), nil
}

var (
	source4, target4 = netip.MustParseAddr("10.1.1.2"), netip.MustParseAddrPort("10.77.0.1:22")
	source6, target6 = netip.MustParseAddr("fd01:1::2"), netip.MustParseAddrPort("[fd77::1]:22")
)

// recordSYNs returns the packets that d sends for a SYN method.
func recordSYNs(t *testing.T, d *Dialer, method string, source netip.Addr, target netip.AddrPort) *packetRecorder {
	t.Helper()
	s, err := d.synSequence(method)
	if err != nil {
		t.Fatal(err)
	}
	w := &packetRecorder{t: t}
	if err := d.sendSYNs(t.Context(), w, source, target, s); err != nil {
		t.Fatal(err)
	}
	for i, p := range w.sent {
		if p.src.Addr() != source || p.dst.Addr() != target.Addr() || w.to[i] != target.Addr().String() {
			t.Errorf("part %d went from %v to %v by way of %s", i, p.src, p.dst, w.to[i])
		}
		if p.src.Port() < firstSourcePort || p.src.Port() >= firstSourcePort+numSourcePorts {
			t.Errorf("part %d came from port %d, which is not given to connections", i, p.src.Port())
		}
		if source.Is4() && p.id == 0 {
			t.Errorf("part %d has no id", i)
		}
	}
	return w
}

func forIPv4AndIPv6(t *testing.T, f func(t *testing.T, source netip.Addr, target netip.AddrPort)) {
	t.Run("IPv4", func(t *testing.T) { synctest.Test(t, func(t *testing.T) { f(t, source4, target4) }) })
	t.Run("IPv6", func(t *testing.T) { synctest.Test(t, func(t *testing.T) { f(t, source6, target6) }) })
}

func TestKnockSYNEncodesSlotAndPort(t *testing.T) {
	forIPv4AndIPv6(t, func(t *testing.T, source netip.Addr, target netip.AddrPort) {
		for _, slot := range []time.Duration{0, 30 * time.Second, 7 * time.Second} {
			time.Sleep(12345 * time.Millisecond)
			d := &Dialer{Identity: testIdentity(t), Slot: slot, Port: 2222}
			w := recordSYNs(t, d, protocol.MethodTCPSYN, source, target)
			if slot == 0 {
				slot = DefaultSlot
			}
			want := d.Identity.SYN(protocol.NewScratch(), 2222, protocol.Slot(time.Now(), slot))
			if len(w.sent) != 1 || w.sent[0].fields != want || w.sent[0].dst != target {
				t.Errorf("slot %v: sent %+v, want %+v to %v", slot, w.sent, want, target)
			}
		}
	})
}

func TestSYNSequenceOrderAndGap(t *testing.T) {
	forIPv4AndIPv6(t, func(t *testing.T, source netip.Addr, target netip.AddrPort) {
		for length := protocol.MinSYNSequence; length <= protocol.MaxSYNSequence; length++ {
			for _, legacy := range []bool{false, true} {
				d := &Dialer{Identity: testIdentity(t), Sequence: Sequence{Length: length, Legacy: legacy}}
				w := recordSYNs(t, d, protocol.MethodTCPSYNSeq, source, target)
				if len(w.sent) != length {
					t.Fatalf("sent %d parts of %d", len(w.sent), length)
				}
				slot := protocol.Slot(w.at[0], DefaultSlot)
				s := protocol.NewScratch()
				for i, p := range w.sent {
					fields, port := d.Identity.SYNPart(s, target.Port(), slot, i), target.Port()
					if legacy {
						fields, port = d.Identity.SYNPartLegacy(s, target.Port(), slot, i)
					}
					if p.fields != fields || p.dst.Port() != port {
						t.Errorf("part %d of %d is %+v to %v, want %+v to port %d", i, length, p.fields, p.dst, fields, port)
					}
					if after := w.at[i].Sub(w.at[0]); after != time.Duration(i)*DefaultSequenceGap {
						t.Errorf("part %d of %d was sent after %v", i, length, after)
					}
				}
			}
		}
	})
}

func TestSYNSequenceDefaultLength(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := recordSYNs(t, &Dialer{Identity: testIdentity(t)}, protocol.MethodTCPSYNSeq, source4, target4)
		if len(w.sent) != 3 {
			t.Errorf("sent %d parts", len(w.sent))
		}
	})
}

func TestSYNSequenceWaitsForNextSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slot = 2 * time.Second
		d := &Dialer{Identity: testIdentity(t), Sequence: Sequence{Slot: slot}}
		takes := 2*DefaultSequenceGap + transitTime
		for offset := time.Duration(0); offset < slot; offset += 10 * time.Millisecond {
			time.Sleep(time.Until(time.Now().Truncate(slot).Add(slot + offset)))
			began := time.Now()
			number := protocol.Slot(began, slot)
			if slot-offset <= takes {
				number++
			}
			w := recordSYNs(t, d, protocol.MethodTCPSYNSeq, source4, target4)
			if waited := w.at[0].Sub(began); slot-offset > takes && waited != 0 {
				t.Errorf("%v into the slot: waited %v for nothing", offset, waited)
			}
			for i, p := range w.sent {
				if protocol.Slot(w.at[i].Add(transitTime-time.Nanosecond), slot) != number {
					t.Errorf("%v into the slot: part %d was sent %v later", offset, i, w.at[i].Sub(began))
				}
				if p.fields != d.Identity.SYNPart(protocol.NewScratch(), target4.Port(), number, i) {
					t.Errorf("%v into the slot: part %d is made for another slot than it is sent in", offset, i)
				}
			}
		}
	})
}

func TestKnockSYNSingleNeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Now().Truncate(DefaultSlot).Add(DefaultSlot - time.Millisecond)))
		began := time.Now()
		w := recordSYNs(t, &Dialer{Identity: testIdentity(t)}, protocol.MethodTCPSYN, source4, target4)
		if w.at[0] != began {
			t.Errorf("waited %v", w.at[0].Sub(began))
		}
	})
}

func TestSYNSequenceContextCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &Dialer{Identity: testIdentity(t)}
		s, err := d.synSequence(protocol.MethodTCPSYNSeq)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			offset time.Duration // from the start of the slot
			parts  int           // sent before the context ended
		}{
			{DefaultSlot - time.Millisecond*100, 0},
			{0, 1},
		} {
			time.Sleep(time.Until(time.Now().Truncate(DefaultSlot).Add(DefaultSlot + c.offset)))
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			w := &packetRecorder{t: t}
			err = d.sendSYNs(ctx, w, source4, target4, s)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) || len(w.sent) != c.parts {
				t.Errorf("%v into the slot: %v after %d parts", c.offset, err, len(w.sent))
			}
		}
	})
}

func TestSYNSourcePortAndIDRandom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ports, ids := map[uint16]bool{}, map[uint16]bool{}
		const times = 64
		for range times {
			p := recordSYNs(t, &Dialer{Identity: testIdentity(t)}, protocol.MethodTCPSYN, source4, target4).sent[0]
			ports[p.src.Port()], ids[p.id] = true, true
		}
		if len(ports) < times/2 || len(ids) < times/2 {
			t.Errorf("%d SYNs had %d source ports and %d ids", times, len(ports), len(ids))
		}
	})
}

func TestSYNRandomExtremes(t *testing.T) {
	for _, c := range []struct {
		random string
		port   uint16
		id     uint16
	}{
		{"\x00\x00\x00\x00\x00\x00", 49152, 1},
		{"\x00\x00\x2e\x47\xff\xff", 60999, 0xffff},
		{"\x00\x00\x2e\x48\x00\x02", 49152, 2},
	} {
		d := &Dialer{Identity: testIdentity(t), Rand: strings.NewReader(c.random)}
		p := recordSYNs(t, d, protocol.MethodTCPSYN, source4, target4).sent[0]
		if p.src.Port() != c.port || p.id != c.id {
			t.Errorf("%x: port %d and id %d, want %d and %d", c.random, p.src.Port(), p.id, c.port, c.id)
		}
	}
}

func TestRawSocketErrorRemedy(t *testing.T) {
	for _, c := range []struct {
		err  error
		says string
	}{
		{fs.ErrPermission, "CAP_NET_RAW"},
		{errors.ErrUnsupported, "Linux"},
		{errors.New("the weather"), "the weather"},
	} {
		err := error(&StepError{Step: StepKnock, Err: &RawSocketError{c.err}})
		if !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "udp") {
			t.Errorf("%v", err)
		}
	}
}
