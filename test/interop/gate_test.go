package interop

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

const (
	knockPort = 62201
	window    = 30 * time.Second
	everyKind = policy.MethodUDP | policy.MethodUDPSeq | policy.MethodSYN | policy.MethodSYNSeq
)

var (
	protected = netip.MustParseAddr("10.77.0.1")
	source    = netip.MustParseAddr("10.0.1.2")
)

// endpoint is a gate with one service and one client, on a clock that begins
// when the test says and goes on as that of its synctest bubble.
type endpoint struct {
	*admission.Gate
	t      *testing.T
	began  time.Time // of the bubble's clock
	clock  time.Time // what the gate's showed then
	events []knock.Event
}

// newEndpoint is called in a bubble, and the gate has ended before that does.
func newEndpoint(t *testing.T, clock time.Time, s policy.Service, length int) *endpoint {
	t.Helper()
	d := &endpoint{t: t, began: time.Now(), clock: clock}
	s.Name, s.Listen = "service", netip.PrefixFrom(protected, protected.BitLen())
	s.GrantTTL, s.GrantUses, s.AuthDeadline = 15*time.Second, 1, 3*time.Second
	policy, err := policy.New(policy.Options{
		Services: []policy.Service{s}, KnockPort: knockPort, Window: window,
		Sequence: policy.Sequence{Length: length},
	})
	if err != nil {
		t.Fatal(err)
	}
	d.Gate, err = admission.New(admission.Options{
		Policy: policy, Store: replay.NewMemoryStore(replay.Options{Now: d.now}), Now: d.now,
		Deliver: func(*packet.Packet, admission.Verdict) {}, Evicted: func(packet.Tuple) {},
		Knocked: func(e knock.Event) { d.events = append(d.events, e) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	ctx := t.Context()
	go func() { ended <- d.Run(ctx) }()
	t.Cleanup(func() {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	return d
}

func (d *endpoint) now() time.Time { return d.clock.Add(time.Since(d.began)) }

// admit shows the gate a packet, and waits until it has decided all knocks.
func (d *endpoint) admit(b []byte) (admission.Verdict, packet.Tuple) {
	p := packet.Packet{Data: b}
	p.Parse()
	v := d.Admit(&p)
	synctest.Wait()
	return v, p.Tuple
}

// last is what became of the last knock.
func (d *endpoint) last() knock.Event {
	if len(d.events) == 0 {
		return knock.Event{}
	}
	return d.events[len(d.events)-1]
}

// synOf is a SYN with the fields of a knock. (TCP SYN knock.)
func synOf(from, to netip.AddrPort, seq uint32, window uint16, tsval uint32) []byte {
	options := []byte{1, 1, 8, 10}
	options = binary.BigEndian.AppendUint32(options, tsval)
	options = append(options, 0, 0, 0, 0)
	return packettest.TCP{Src: from, Dst: to, Flags: packet.SYN, Seq: seq, Window: window, Options: options}.Packet()
}

func TestGateAcceptsUDPVectors(t *testing.T) {
	for i, v := range loadVectors(t).Knock {
		synctest.Test(t, func(t *testing.T) {
			id := v.client(t)
			d := newEndpoint(t, v.now(), policy.Service{
				Port: v.Port, Mode: policy.ModeKnockAuth, Methods: policy.MethodUDP | policy.MethodUDPSeq,
				Clients: []*policy.Client{policy.NewClient(id)},
			}, v.Total)
			datagram := packettest.UDP{Src: netip.AddrPortFrom(source, 50000), Dst: netip.AddrPortFrom(protected, knockPort), Payload: v.Frame}.Packet()
			d.admit(datagram)
			want := knock.OK
			if v.Total > 1 {
				want = knock.Incomplete
			}
			if e := d.last(); e.Result != want || e.Client != v.ClientID {
				t.Errorf("%d, %s: %+v", i, v.Method, e)
			}
			if v.Total > 1 {
				return
			}
			if d.admit(datagram); d.last().Result != knock.Replayed {
				t.Errorf("%d, once more: %+v", i, d.last())
			}
		})
	}
}

func TestGateAcceptsSYNVectors(t *testing.T) {
	for i, v := range loadVectors(t).SYN {
		synctest.Test(t, func(t *testing.T) {
			d := synEndpoint(t, v.origin, v.Slot, 0)
			to := netip.AddrPortFrom(protected, v.Port)
			d.admit(synOf(netip.AddrPortFrom(source, 50001), to, v.Seq, v.Window, v.TSVal))
			if e := d.last(); e.Result != knock.OK || e.Client != v.ClientID || e.Method != protocol.MethodTCPSYN {
				t.Errorf("%d: %+v", i, e)
			}
			if v, _ := d.admit(packettest.SYN(netip.AddrPortFrom(source, 50002), to, 1)); v.Reason != admission.ReasonGrant {
				t.Errorf("%d: the connection: %v", i, v.Reason)
			}
		})
	}
}

func TestGateAcceptsSYNSequenceVectors(t *testing.T) {
	for i, v := range loadVectors(t).SYNSeq {
		synctest.Test(t, func(t *testing.T) {
			d := synEndpoint(t, v.origin, v.Slot, v.Total)
			for _, part := range v.Parts {
				d.admit(synOf(netip.AddrPortFrom(source, 50001), netip.AddrPortFrom(protected, part.DstPort), part.Seq, part.Window, part.TSVal))
			}
			if e := d.last(); e.Result != knock.OK || e.Client != v.ClientID || e.Method != protocol.MethodTCPSYNSeq {
				t.Errorf("%d: %+v", i, e)
			}
		})
	}
}

// synEndpoint takes SYN knocks in the middle of a slot.
func synEndpoint(t *testing.T, o origin, slot int64, length int) *endpoint {
	t.Helper()
	at := time.Unix(slot*int64(window/time.Second), 0).Add(window / 2)
	return newEndpoint(t, at, policy.Service{
		Port: o.Port, Mode: policy.ModeKnockAuth, Methods: everyKind, Clients: []*policy.Client{policy.NewClient(o.client(t))},
	}, length)
}
