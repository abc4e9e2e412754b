package netstack_test

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/netstack"
	"github.com/knockgw/knockgw/packet"
)

// held passes requests to the test, and waits until it is done with them.
func held(requests chan *netstack.Request, release chan struct{}) func(*harness) {
	return func(th *harness) {
		th.handle = func(r *netstack.Request) { requests <- r; <-release }
	}
}

func TestRequestWaitsForOwner(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(r *netstack.Request)
		flags  uint8 // of the answer; 0: none
	}{
		"refused":   {(*netstack.Request).Reset, packet.RST | packet.ACK},
		"ignored":   {(*netstack.Request).Drop, 0},
		"forgotten": {func(*netstack.Request) {}, 0},
		"accepted":  {func(r *netstack.Request) { go r.Accept() }, packet.SYN | packet.ACK},
	} {
		for family, f := range families {
			t.Run(name+" "+family, func(t *testing.T) {
				requests, release := make(chan *netstack.Request), make(chan struct{})
				th := newHarness(t, true, held(requests, release))
				var once sync.Once
				free := func() { once.Do(func() { close(release) }) }
				defer free()
				client := th.raw(1000, netip.AddrPortFrom(f.target, hiddenPort))
				client.send(packet.SYN, nil)
				r := <-requests
				if r.Tuple != client.tuple() {
					t.Errorf("the request is %v", r.Tuple)
				}
				th.silent()
				c.answer(r)
				if c.flags == 0 {
					free()
					th.silent()
					return
				}
				p := client.expect(c.flags)
				if p.Ack != client.seq {
					t.Errorf("it acknowledges %d of %d", p.Ack, client.seq)
				}
			})
		}
	}
}

func TestRequestFirstAnswerCounts(t *testing.T) {
	requests, release := make(chan *netstack.Request), make(chan struct{})
	th := newHarness(t, true, held(requests, release))
	defer close(release)
	client := th.raw(1000, netip.AddrPortFrom(target4, hiddenPort))
	client.send(packet.SYN, nil)
	r := <-requests
	r.Drop()
	r.Reset()
	if c, err := r.Accept(); err == nil || c != nil {
		t.Errorf("%v, %v", c, err)
	}
	th.silent()
	// Once it is answered, the client may try again.
	client.seq = 5000
	client.send(packet.SYN, nil)
	(<-requests).Reset()
	client.expect(packet.RST | packet.ACK)
}

func TestRequestAbandonHandshake(t *testing.T) {
	for name, c := range map[string]struct {
		giveUp func(r *netstack.Request)
		flags  uint8
	}{
		"refused": {(*netstack.Request).Reset, packet.RST | packet.ACK},
		"ignored": {(*netstack.Request).Drop, 0},
	} {
		t.Run(name, func(t *testing.T) {
			requests, release := make(chan *netstack.Request), make(chan struct{})
			th := newHarness(t, true, held(requests, release))
			defer close(release)
			client := th.raw(1000, netip.AddrPortFrom(target4, hiddenPort))
			client.send(packet.SYN, nil)
			r := <-requests
			accepted := make(chan error, 1)
			go func() { _, err := r.Accept(); accepted <- err }()
			client.expect(packet.SYN | packet.ACK)
			var both sync.WaitGroup
			for range 2 {
				both.Go(func() { c.giveUp(r) })
			}
			both.Wait()
			if err := <-accepted; err == nil {
				t.Error("it was accepted")
			}
			if c.flags != 0 {
				client.expect(c.flags)
			}
			th.silent()
			client.settles(netstack.Closed)
		})
	}
}

func TestRequestResetWaitsForHandshake(t *testing.T) {
	requests, release := make(chan *netstack.Request), make(chan struct{})
	th := newHarness(t, true, held(requests, release))
	defer close(release)
	client := th.raw(1000, netip.AddrPortFrom(target4, hiddenPort))
	client.send(packet.SYN, nil)
	r := <-requests
	conns := make(chan *netstack.Conn, 1)
	go func() { c, _ := r.Accept(); conns <- c }()
	client.expect(packet.SYN | packet.ACK)
	refused := make(chan struct{})
	go func() { r.Reset(); close(refused) }()
	time.Sleep(10 * time.Millisecond)
	client.send(packet.ACK, nil)
	c := <-conns
	<-refused
	if c == nil {
		t.Fatal("it was not accepted")
	}
	c.Abort()
	if p := client.expect(packet.RST | packet.ACK); p.Seq != client.ack {
		t.Errorf("the reset's number is %d, the client takes only %d", p.Seq, client.ack)
	}
}

func TestRequestAbandonRacesHandshake(t *testing.T) {
	requests, release := make(chan *netstack.Request), make(chan struct{})
	th := newHarness(t, true, held(requests, release))
	defer close(release)
	accepted := 0
	for n := range 300 {
		client := th.raw(uint16(1000+n), netip.AddrPortFrom(target4, hiddenPort))
		client.send(packet.SYN, nil)
		r := <-requests
		var both sync.WaitGroup
		var c *netstack.Conn
		var err error
		both.Go(func() { c, err = r.Accept() })
		both.Go(func() {
			time.Sleep(time.Duration(n) * time.Microsecond)
			r.Drop()
		})
		over := make(chan struct{})
		go func() { both.Wait(); close(over) }()
		for waiting := true; waiting; {
			select {
			case <-over:
				waiting = false
			default:
				var p packet.Packet
				if th.wire.TryRead(&p) && p.Parse() && p.Flags == packet.SYN|packet.ACK && p.Tuple == client.tuple().Reverse() {
					client.ack = p.Seq + 1
					client.send(packet.ACK, nil)
				}
			}
		}
		if (c == nil) != (err != nil) {
			t.Errorf("%v, %v", c, err)
		}
		if c != nil {
			accepted++
			c.Abort()
		}
		client.settles(netstack.Closed)
	}
	t.Logf("%d of 300 were accepted", accepted)
}

func TestStackObeysEgress(t *testing.T) {
	for family, f := range families {
		t.Run(family, func(t *testing.T) {
			th := newHarness(t, true)
			to := netip.AddrPortFrom(f.target, hiddenPort)
			client := th.raw(1000, to).open()
			c := th.accepted()
			th.mute()
			before := th.refused.Load()
			c.Write([]byte("unheard"))
			c.Abort()
			if th.refused.Load() < before+2 {
				t.Errorf("%d packets were held back", th.refused.Load()-before)
			}
			th.raw(1001, to).send(packet.ACK, nil) // of no connection
			client.send(packet.ACK|packet.PSH, []byte("after the end"))
			th.silent()
		})
	}
}

func TestStackSendsNothingUnasked(t *testing.T) {
	th := newHarness(t, true, func(th *harness) {
		th.admit = func(p *packet.Packet) netstack.Decision { return netstack.Decision{Pass: true} }
		th.handle = func(r *netstack.Request) {}
	})
	th.silent() // no multicast listener report, router solicitation, or duplicate address detection
	for _, f := range families {
		src, dst := netip.AddrPortFrom(f.home, 1000), netip.AddrPortFrom(f.target, hiddenPort)
		echo, proto := uint8(8), uint8(13) // echo; timestamp
		if f.home.Is6() {
			echo, proto = 128, 135 // echo; neighbor solicitation
		}
		th.put(
			packettest.UDP{Src: src, Dst: dst, Payload: []byte("x")}.Packet(),
			packettest.ICMP{Src: f.home, Dst: f.target, Type: echo, Payload: []byte("ping")}.Packet(),
			packettest.ICMP{Src: f.home, Dst: f.target, Type: proto, Payload: make([]byte, 16)}.Packet(),
			packettest.IP(f.home, f.target, 132, make([]byte, 20)), // SCTP
			packettest.IP(f.home, f.target, packet.TCP, make([]byte, 20)),
		)
		for flags := range uint8(64) {
			th.put(packettest.TCP{Src: src, Dst: dst, Flags: flags, Seq: 1, Ack: 1, Payload: []byte("x")}.Packet())
		}
	}
	th.silent()
}

func TestStackTupleReusedInTimeWait(t *testing.T) {
	for name, reused := range map[string]bool{"reused": true, "not": false} {
		for family, f := range families {
			t.Run(name+" "+family, func(t *testing.T) {
				th := newHarness(t, true, func(th *harness) {
					th.admit = func(p *packet.Packet) netstack.Decision {
						return netstack.Decision{Pass: p.DropReason == packet.NotDropped, TupleReused: reused && p.Flags&packet.SYN != 0}
					}
				})
				client := th.raw(1000, netip.AddrPortFrom(f.target, hiddenPort))
				client.settles(netstack.Closed)
				client.open()
				c := th.accepted()
				c.Close() // first: TIME_WAIT is ours
				client.expect(packet.FIN | packet.ACK)
				client.settles(netstack.Closing)
				client.send(packet.FIN|packet.ACK, nil)
				client.expect(packet.ACK)
				client.settles(netstack.TimeWait)
				refuse := func(p *packet.Packet, _ int) bool { return p.Flags&packet.RST == 0 }
				th.egress.Store(&refuse) // as the gate does
				client.seq += 100_000
				client.ack = 0
				client.send(packet.SYN, nil)
				if !reused {
					th.silent() // the actual test
					return
				}
				client.expect(packet.SYN | packet.ACK)
				client.send(packet.ACK|packet.PSH, []byte("again"))
				b := make([]byte, 5)
				if _, err := io.ReadFull(th.accepted(), b); err != nil || string(b) != "again" {
					t.Errorf("%q, %v", b, err)
				}
			})
		}
	}
}

func TestStackTupleReusedKeepsConnection(t *testing.T) {
	th := newHarness(t, true)
	client := th.raw(1000, netip.AddrPortFrom(target4, hiddenPort)).open()
	c := th.accepted()
	th.inject(client.packet(packet.ACK|packet.PSH, []byte("on")), netstack.Decision{Pass: true, TupleReused: true})
	b := make([]byte, 2)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "on" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestStackAddsTimestamp(t *testing.T) {
	timestamps := []byte{1, 1, 8, 10, 0xff, 0, 0, 1, 0, 0, 0, 0}
	for name, options := range map[string][]byte{
		"no options":  nil,
		"SACK blocks": append([]byte{1, 1, 5, 26}, make([]byte, 24)...),
		"no room":     append([]byte{1, 1, 5, 34}, make([]byte, 32)...),
	} {
		for family, f := range families {
			for _, port := range []uint16{hiddenPort, openPort} {
				t.Run(fmt.Sprintf("%s %s %d", name, family, port), func(t *testing.T) {
					th := newHarness(t, false, func(th *harness) {
						admit := th.admit
						th.admit = func(p *packet.Packet) netstack.Decision {
							d := admit(p)
							d.AddTimestamp, d.Timestamp = p.Flags&packet.SYN == 0, 0xff000001
							return d
						}
					})
					client := th.raw(1000, netip.AddrPortFrom(f.target, port))
					client.options = timestamps
					client.send(packet.SYN, nil)
					if p := client.expect(packet.SYN | packet.ACK); !bytes.Contains(p.TCPOptions(), []byte{8, 10}) {
						t.Fatal("no timestamps were agreed on")
					}
					th.put(packettest.TCP{
						Src: client.src, Dst: client.dst, Flags: packet.ACK, Seq: client.seq, Ack: client.ack,
						Options: options, Payload: []byte("hello"),
					}.Packet())
					got := make([]byte, len("hello"))
					if _, err := io.ReadFull(th.accepted(), got); err != nil || string(got) != "hello" {
						t.Errorf("%q, %v", got, err)
					}
				})
			}
		}
	}
}
