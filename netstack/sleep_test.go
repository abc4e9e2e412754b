package netstack_test

import (
	"io"
	"net/netip"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/faketime"

	"github.com/knockgw/knockgw/netstack"
	"github.com/knockgw/knockgw/packet"
)

// sleeping is a harness whose clock the test controls.
func sleeping(t *testing.T) (th *harness, pass func(d time.Duration) (sent int)) {
	clock := faketime.NewManualClock()
	th = newHarness(t, true, func(th *harness) { th.clock = clock })
	return th, func(d time.Duration) (sent int) {
		const step = 10 * time.Second
		for ; d > 0; d -= step {
			clock.Advance(min(d, step))
			for p := new(packet.Packet); th.wire.TryRead(p); sent++ {
			}
		}
		return sent
	}
}

func TestConnOutlivesSleepingClient(t *testing.T) {
	for family, f := range families {
		for name, pending := range map[string]string{"idle": "", "with something to send": "while you slept"} {
			t.Run(family+" "+name, func(t *testing.T) {
				for _, asleep := range []time.Duration{270 * time.Second, 9 * time.Hour, 60 * time.Hour} {
					th, pass := sleeping(t)
					client := th.raw(1000, netip.AddrPortFrom(f.target, hiddenPort)).open()
					c := th.accepted()
					if _, err := io.WriteString(c, pending); err != nil {
						t.Fatal(err)
					}
					if pending != "" {
						client.expect(packet.ACK)
					}
					// One probe or retransmission a minute, and some more to
					// begin with.
					if n := pass(asleep); n < int(asleep/time.Minute)/2 || n > int(asleep/time.Minute)+12 {
						t.Errorf("%d packets to a client that slept for %v", n, asleep)
					}
					client.send(packet.ACK|packet.PSH, []byte("good morning"))
					got := make([]byte, len("good morning"))
					if _, err := io.ReadFull(c, got); err != nil {
						t.Fatalf("after %v: %v", asleep, err)
					}
					if _, err := c.Write([]byte("and to you")); err != nil {
						t.Fatalf("after %v: %v", asleep, err)
					}
					c.Abort()
				}
			})
		}
	}
}

func TestConnCloseTimeout(t *testing.T) {
	th, pass := sleeping(t)
	client := th.raw(1000, netip.AddrPortFrom(target4, hiddenPort)).open()
	c := th.accepted()
	c.Write(noise(5000))
	client.expect(packet.ACK)
	pass(time.Hour)
	c.Close()
	pass(16 * time.Minute)
	client.settles(netstack.Closed)
}

func TestStackSendsReset(t *testing.T) {
	for family, f := range families {
		t.Run(family, func(t *testing.T) {
			over := false
			th := newHarness(t, true, func(th *harness) {
				admit := th.admit
				th.admit = func(p *packet.Packet) netstack.Decision {
					d := admit(p)
					d.Reset = over
					return d
				}
			})
			client := th.raw(1000, netip.AddrPortFrom(f.target, hiddenPort)).open()
			c := th.accepted()
			over = true
			for _, flags := range []uint8{packet.SYN, packet.RST, packet.RST | packet.ACK, packet.FIN, 0} {
				th.put(client.packet(flags, nil))
			}
			th.silent()
			before := client.ack
			for _, flags := range []uint8{packet.ACK, packet.ACK | packet.PSH, packet.FIN | packet.ACK} {
				th.put(client.packet(flags, []byte("are you there?")))
				if p := client.expect(packet.RST); p.Seq != before || len(p.Data) != p.L4+20 {
					t.Errorf("a reset with sequence number %d, not %d, in %d bytes", p.Seq, before, len(p.Data))
				}
				client.ack = before
			}
			if c.CanRead() {
				t.Error("the stack looked at the segments")
			}
			c.Abort()
		})
	}
}
