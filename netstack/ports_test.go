package netstack_test

import (
	"net/netip"
	"testing"

	"github.com/knockgw/knockgw/netstack"
	"github.com/knockgw/knockgw/packet"
)

func TestSetOpenPortsWhileRunning(t *testing.T) {
	const another = 8443
	th := newHarness(t, true, func(th *harness) {
		th.admit = func(p *packet.Packet) netstack.Decision {
			return netstack.Decision{Pass: p.DropReason == packet.NotDropped, Open: true}
		}
	})
	client := th.raw(2000, netip.AddrPortFrom(target4, openPort)).open()
	c := th.accepted()
	if err := th.stack.SetOpenPorts([]uint16{openPort, another, another}); err != nil {
		t.Fatal(err)
	}
	added := th.raw(1000, netip.AddrPortFrom(target4, another))
	added.send(packet.SYN, nil)
	added.expect(packet.SYN | packet.ACK)
	if err := th.stack.SetOpenPorts([]uint16{another}); err != nil {
		t.Fatal(err)
	}
	// Established connections continue.
	client.send(packet.ACK|packet.PSH, []byte("hello"))
	b := make([]byte, 5)
	if _, err := c.Read(b); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
	if err := th.stack.SetOpenPorts([]uint16{openPort}); err != nil {
		t.Fatal(err)
	}
	fresh := th.raw(3000, netip.AddrPortFrom(target4, openPort)).open()
	fresh.send(packet.ACK|packet.PSH, []byte("again"))
	if _, err := th.accepted().Read(b); err != nil || string(b) != "again" {
		t.Errorf("%q, %v", b, err)
	}
	th.end()
	if err := th.stack.SetOpenPorts(nil); err == nil {
		t.Error("ports change after the end")
	}
}

func TestStackAbort(t *testing.T) {
	for name, port := range map[string]uint16{"hidden": hiddenPort, "open": openPort} {
		t.Run(name, func(t *testing.T) {
			th := newHarness(t, true)
			client := th.raw(1000, netip.AddrPortFrom(target4, port)).open()
			c := th.accepted()
			th.mute()
			if _, err := c.Write([]byte("never acknowledged")); err != nil {
				t.Fatal(err)
			}
			_ = c.Close()
			client.settles(netstack.Closing)
			th.stack.Abort(client.tuple())
			client.settles(netstack.Closed)
			th.silent()
		})
	}
}
