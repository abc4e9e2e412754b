package netstack_test

import (
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/knockgw/knockgw/netstack"
	"github.com/knockgw/knockgw/packet"
)

func TestListenerHandlesEstablished(t *testing.T) {
	for family, f := range families {
		t.Run(family, func(t *testing.T) {
			requests, release := make(chan *netstack.Request), make(chan struct{})
			th := newHarness(t, true, held(requests, release))
			defer close(release)
			client := th.raw(1000, netip.AddrPortFrom(f.target, openPort))
			client.send(packet.SYN, nil)
			client.expect(packet.SYN | packet.ACK)
			select {
			case <-requests:
				t.Error("a request before the handshake is done")
			case <-time.After(quietPeriod):
			}
			client.send(packet.ACK, nil)
			r := <-requests
			if r.Tuple != client.tuple() {
				t.Errorf("the request is %v", r.Tuple)
			}
			c, err := r.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if c.Tuple() != client.tuple() || c.RemoteAddr().String() != client.src.String() || c.LocalAddr().String() != client.dst.String() {
				t.Errorf("%v from %v to %v", c.Tuple(), c.RemoteAddr(), c.LocalAddr())
			}
			if _, err := r.Accept(); err == nil {
				t.Error("accepted twice")
			}
			r.Drop() // too late
			c.Write([]byte("hello"))
			if p := client.expect(packet.ACK); string(p.Data[p.Payload:]) != "hello" {
				t.Errorf("%q", p.Data[p.Payload:])
			}
		})
	}
}

func TestListenerAbortsUnaccepted(t *testing.T) {
	for name, answer := range map[string]func(r *netstack.Request){
		"refused":   (*netstack.Request).Reset,
		"ignored":   (*netstack.Request).Drop,
		"forgotten": func(*netstack.Request) {},
	} {
		t.Run(name, func(t *testing.T) {
			th := newHarness(t, true, func(th *harness) { th.handle = answer })
			client := th.raw(1000, netip.AddrPortFrom(target4, openPort)).open()
			client.expect(packet.RST | packet.ACK)
			client.settles(netstack.Closed)
		})
	}
}

func TestListenerSurvivesSYNFlood(t *testing.T) {
	th := newHarness(t, true)
	port := netip.AddrPortFrom(target4, openPort)
	const n = 3000
	cookies := 0
	for i := range n {
		attacker := th.raw(1000, port)
		attacker.src = netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), 1000)
		attacker.options = []byte{2, 4, 5, 0xb4, 4, 2, 1, 1} // MSS, SACK permitted
		attacker.send(packet.SYN, nil)
		if p := attacker.expect(packet.SYN | packet.ACK); len(p.TCPOptions()) < 8 {
			cookies++ // a cookie cannot encode the client's options
		}
	}
	if cookies < n/2 || cookies == n {
		t.Errorf("%d of %d answers were cookies", cookies, n)
	}
	client := th.raw(2000, port).open()
	client.send(packet.ACK|packet.PSH, []byte("hello"))
	c := th.accepted()
	b := make([]byte, 5)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
	// The hidden interface is not affected.
	hidden := th.raw(2001, netip.AddrPortFrom(target4, hiddenPort))
	hidden.seq = 77
	hidden.open()
	th.accepted()
}

func TestStackSeparatesInterfaces(t *testing.T) {
	requests := make(chan *netstack.Request, 1)
	th := newHarness(t, true, func(th *harness) {
		th.handle = func(r *netstack.Request) { requests <- r }
		th.admit = func(p *packet.Packet) netstack.Decision {
			return netstack.Decision{Pass: p.DropReason == packet.NotDropped, Open: p.Tuple.DstPort == hiddenPort}
		}
	})
	th.raw(1000, netip.AddrPortFrom(target4, openPort)).send(packet.SYN, nil)
	<-requests
	th.raw(1001, netip.AddrPortFrom(target4, hiddenPort)).send(packet.SYN, nil)
	th.silent()
}
