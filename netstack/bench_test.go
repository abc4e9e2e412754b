package netstack_test

import (
	"context"
	"encoding/binary"
	"net/netip"
	"os"
	"sync"
	"testing"

	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/netstack"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/tun"
)

// A peer is a device with a client at its far end that takes almost no time, so
// that the benchmark measures the stack:
//
//	Read <- a SYN, an ACK, then super-packets within the window (into)
//	                       or acknowledgements (out of)
//	Write -> records the acknowledgement, or acknowledges the data
type peer struct {
	src, dst netip.AddrPort
	data     []byte // a super-packet; its sequence number is written at every Read
	first    []byte // a smaller one
	ack      []byte // an acknowledgement

	mu      sync.Mutex
	cond    *sync.Cond
	closed  bool
	synack  bool
	step    int    // of the handshake
	seq     uint32 // next of ours
	acked   uint32 // of ours
	window  uint32
	theirs  uint32 // next of theirs
	unacked bool
	into    bool // it sends data
}

const (
	benchPayload = 64000    // bytes of a super-packet
	benchFirst   = benchMSS // of one that fits into a small window
	benchMSS     = 1440
)

func newPeer() *peer {
	p := &peer{src: netip.AddrPortFrom(client4, 1000), dst: netip.AddrPortFrom(target4, hiddenPort), seq: 1001, acked: 1001}
	p.cond = sync.NewCond(&p.mu)
	p.data = packettest.TCP{Src: p.src, Dst: p.dst, Flags: packet.ACK, Payload: make([]byte, benchPayload)}.Packet()
	p.first = packettest.TCP{Src: p.src, Dst: p.dst, Flags: packet.ACK, Payload: make([]byte, benchFirst)}.Packet()
	p.ack = packettest.TCP{Src: p.src, Dst: p.dst, Flags: packet.ACK}.Packet()
	return p
}

func (p *peer) Info() tun.Info { return tun.Info{Name: "bench0", MTU: testMTU, Offload: true} }

func (p *peer) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.cond.Broadcast()
	return nil
}

// talk makes the client send as much as the window permits, or stop.
func (p *peer) talk(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.into = on
	p.cond.Broadcast()
}

func (p *peer) Read(q *packet.Packet) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.closed:
			return os.ErrClosed
		case p.step == 0:
			p.step++
			q.Data = packettest.TCP{Src: p.src, Dst: p.dst, Flags: packet.SYN, Seq: p.seq - 1,
				Options: []byte{2, 4, benchMSS >> 8, benchMSS & 255, 1, 3, 3, 10}}.Packet()
			q.Offload = packet.Offload{}
			return nil
		case p.unacked:
			p.unacked = false
			p.fill(q, p.ack)
			return nil
		case p.into && p.room() >= benchPayload:
			p.fill(q, p.data)
			p.seq += benchPayload
			return nil
		case p.into && p.room() >= benchFirst && p.acked == p.seq:
			p.fill(q, p.first)
			p.seq += benchFirst
			return nil
		}
		p.cond.Wait()
	}
}

// room returns the rest of the window in bytes.
func (p *peer) room() int {
	if !p.synack {
		return 0
	}
	return int(int32(p.acked + p.window - p.seq))
}

func (p *peer) fill(q *packet.Packet, b []byte) {
	binary.BigEndian.PutUint32(b[24:], p.seq)
	binary.BigEndian.PutUint32(b[28:], p.theirs)
	q.Data, q.Offload = b, packet.Offload{ChecksumValid: true}
	if len(b) > testMTU {
		q.Offload.SegmentSize = benchMSS
	}
}

func (p *peer) Write(_ packet.Offload, parts [][]byte) error {
	size := 0
	for _, b := range parts {
		size += len(b)
	}
	h := parts[0][20:]
	headers := 20 + int(h[12]>>4)*4
	p.mu.Lock()
	defer p.mu.Unlock()
	seq := binary.BigEndian.Uint32(h[4:])
	p.acked = binary.BigEndian.Uint32(h[8:])
	window := uint32(binary.BigEndian.Uint16(h[14:]))
	switch {
	case h[13]&packet.SYN != 0:
		p.synack, p.unacked = true, true
		p.theirs = seq + 1
		p.window = window
		p.scale(h[20 : headers-20])
	case h[13]&packet.RST == 0:
		p.window = window << p.shift()
		if size > headers && seq == p.theirs {
			p.theirs += uint32(size - headers)
			p.unacked = true
		}
	}
	p.cond.Signal()
	return nil
}

var _ tun.Device = (*peer)(nil)

// scale and shift are the window scale, the third option of a SYN-ACK.
func (p *peer) scale(options []byte) {
	for len(options) > 0 {
		switch options[0] {
		case 1:
			options = options[1:]
		case 3:
			p.step = 1 + int(options[2])
			return
		default:
			options = options[options[1]:]
		}
	}
}

func (p *peer) shift() int { return p.step - 1 }

// stream runs a stack on a peer and calls f with its connection.
func stream(b *testing.B, f func(p *peer, c *netstack.Conn)) {
	p := newPeer()
	conns := make(chan *netstack.Conn, 1)
	release := make(chan struct{})
	s, err := netstack.New(netstack.Options{
		Device: p,
		Admit: func(q *packet.Packet) netstack.Decision {
			return netstack.Decision{Pass: q.DropReason == packet.NotDropped}
		},
		Egress: func(*packet.Packet, int) bool { return true },
		Handle: func(r *netstack.Request) {
			c, err := r.Accept()
			if err != nil {
				b.Error(err)
			}
			conns <- c
			<-release
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	c := <-conns
	b.SetBytes(benchPayload)
	b.ReportAllocs()
	b.ResetTimer()
	f(p, c)
	b.StopTimer()
	c.Abort()
	close(release)
	stop()
	if err := <-done; err != nil {
		b.Error(err)
	}
}

// BenchmarkStreamIn measures a super-packet of 64,000 bytes from the device to
// Read.
func BenchmarkStreamIn(b *testing.B) {
	stream(b, func(p *peer, c *netstack.Conn) {
		buf := make([]byte, 256<<10)
		p.talk(true)
		for n := 0; n < b.N*benchPayload; {
			waitRead(c)
			m, err := c.Read(buf)
			if err != nil {
				b.Fatal(err)
			}
			n += m
		}
		p.talk(false)
	})
}

// BenchmarkStreamOut measures 64,000 bytes from Write to the device, in
// super-packets.
func BenchmarkStreamOut(b *testing.B) {
	stream(b, func(_ *peer, c *netstack.Conn) {
		buf := make([]byte, 256000)
		for n := 0; n < b.N*benchPayload; {
			m, err := c.Write(buf[:min(len(buf), b.N*benchPayload-n)])
			if err != nil {
				b.Fatal(err)
			}
			n += m
		}
	})
}
