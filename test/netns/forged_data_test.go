//go:build linux

package netns_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/testtool"
	"github.com/knockgw/knockgw/protocol"
	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	// sweepStep is the distance of two guesses at a sequence number: several
	// are in the smallest window that a flow has.
	sweepStep = 128 << 10
	sweepRate = 60_000
	// sweptBytes is what the client sends after the sweep: more than its window
	// was.
	sweptBytes = 4 << 20
	sweptWord  = "EVIL"
	sweptWords = 300
	sweptTime  = 20 * time.Second
)

// spied is what the wire of a test knows of a flow, so that the attacker's
// guesses can be wrong by as much as the test says.
type spied struct {
	mu       sync.Mutex
	isn, iss uint32 // the client's first sequence number, and the gateway's
	last     []byte // the last packet to the client with data
	bytes    int    // to the client
	packets  int    // with data
}

func (s *spied) see(direction int, packet []byte) {
	seg, ok := lab.ReadSegment(packet)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case direction == 0 && seg.Flags&lab.SYN != 0:
		s.isn = seg.Seq
	case direction == 1 && seg.Flags&lab.SYN != 0:
		s.iss = seg.Seq
	case direction == 1 && len(seg.Payload) > 0:
		s.last = append(s.last[:0], packet...)
		s.bytes += len(seg.Payload)
		s.packets++
	}
}

// Data in the name of a client whose connection the attacker knows, with
// sequence numbers all over the space and acknowledgement numbers that were
// never sent, is not heard upstream, and a FIN among it does not end the
// connection.
func TestForgedDataReachesNoUpstream(t *testing.T) {
	withEachFilter(t, func(t *testing.T, l *lab.Lab) {
		var spy spied
		distant(t, l, spy.see)
		r := recordUpstream(t, l)
		endpoints := []endpoint{
			hiddenAt("10.77.0.1:8003", "knock-auth", r.addr, protocol.MethodUDP),
			hiddenAt("[fd77::1]:8003", "knock-auth", r.addr, protocol.MethodUDP),
		}
		l.NewSite(t, program.get(t), attackText("", endpoints...)).Start(t)
		for _, d := range endpoints {
			t.Run(d.name, func(t *testing.T) {
				conn, err := attackedDialer(t, l, d, protocol.MethodUDP).DialContext(t.Context(), "tcp", d.listen.String())
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = conn.Close() }()
				if got := ask(t, conn, "hello"); got != r.greeting {
					t.Fatalf("%s answered %q", d.name, got)
				}
				sent := sweep(t, l, d, conn, &spy)
				if err := conn.SetDeadline(time.Now().Add(sweptTime)); err != nil {
					t.Fatal(err)
				}
				if _, err := io.WriteString(conn, strings.Repeat("a", sweptBytes)); err != nil {
					t.Fatalf("the connection has ended: %v", err)
				}
				_ = conn.(interface{ CloseWrite() error }).CloseWrite()
				_, _ = io.Copy(io.Discard, conn)
				_, words := r.connections()
				heard := strings.TrimPrefix(words[len(words)-1], "hello\n")
				if strings.Trim(heard, "a") != "" {
					t.Errorf("the upstream heard what the client has not sent: %d times %q", strings.Count(heard, sweptWord), sweptWord)
				}
				if len(heard) != sweptBytes {
					t.Errorf("the upstream heard %d bytes of %d", len(heard), sweptBytes)
				}
				t.Logf("%d packets were forged", sent)
			})
		}
	})
}

// sweep forges segments of a connection over the whole sequence space: data and
// FIN, with acknowledgement numbers wrong by 2^30 and by 2^31.
func sweep(t *testing.T, l *lab.Lab, d endpoint, conn net.Conn, spy *spied) (sent int) {
	t.Helper()
	src := conn.LocalAddr().(*net.TCPAddr).AddrPort()
	spy.mu.Lock()
	iss := spy.iss
	spy.mu.Unlock()
	var turn atomic.Int64
	over := make(chan struct{})
	end := sync.OnceFunc(func() { close(over) })
	// As long as a segment: the client's own will end within it, and what is
	// left would follow.
	data := []byte(strings.Repeat(sweptWord, sweptWords))
	next := func(b []byte) int {
		n := turn.Add(1) - 1
		at, kind := uint64(n/3)*sweepStep, n%3
		if at >= 1<<32 {
			end()
			return 0
		}
		s := lab.Segment{Src: src, Dst: d.listen, Seq: uint32(at), Ack: iss + 1<<30, Flags: lab.ACK | lab.PSH, Payload: data}
		switch kind {
		case 1:
			s.Ack = iss + 1<<31
		case 2:
			s.Flags |= lab.FIN
		}
		return len(s.Append(b[:0]))
	}
	return during(t, l, d.listen.Addr(), next, sweepRate, func() {
		select {
		case <-over:
		case <-time.After(sweptTime):
			t.Error("the sweep has not ended")
		}
	})
}

const (
	// mtuLines makes a reply that outlasts the test.
	mtuLines = 4_000_000
	mtuWatch = 700 * time.Millisecond
	// mtuShare is what part of the throughput must be left.
	mtuShare = 0.4
	mtuRate  = 2000
)

// ICMP errors that a router would not send, or an attacker sends, do not make
// the gateway cut its packets to pieces.
func TestForgedPathMTULeavesTheThroughput(t *testing.T) {
	testtool.RequireLong(t, "measures throughput")
	withEachFilter(t, func(t *testing.T, l *lab.Lab) {
		var spy spied
		distant(t, l, spy.see)
		s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
		endpoints := []endpoint{
			hiddenAt("10.77.0.1:8003", "knock-auth", s.Addr, protocol.MethodUDP),
			hiddenAt("[fd77::1]:8003", "knock-auth", s.Addr, protocol.MethodUDP),
		}
		l.NewSite(t, program.get(t), attackText("", endpoints...)).Start(t)
		for _, d := range endpoints {
			conn, err := attackedDialer(t, l, d, protocol.MethodUDP).DialContext(t.Context(), "tcp", d.listen.String())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Fprintf(conn, "whole %d\n", mtuLines); err != nil {
				t.Fatal(err)
			}
			_ = conn.(interface{ CloseWrite() error }).CloseWrite()
			go func() { _, _ = io.Copy(io.Discard, conn) }()
			for end := time.Now().Add(sweptTime); time.Now().Before(end); { // until the upstream has made its reply
				if sent, _ := spy.watch(sampleEvery); sent > 0 {
					break
				}
			}
			time.Sleep(mtuWatch) // slow start
			before, size := spy.watch(mtuWatch)
			if before == 0 {
				t.Fatalf("%s sends nothing", d.name)
			}
			for _, mtu := range []uint32{0, 67, 552} {
				during(t, l, d.listen.Addr(), spy.lies(l.Attacker.Addr(d.listen.Addr()), mtu), mtuRate, func() { time.Sleep(mtuWatch / 2) })
				after, now := spy.watch(mtuWatch)
				t.Logf("%s, MTU %d: %.1f Mb/s in segments of %d bytes, before %.1f Mb/s in %d", d.name, mtu,
					float64(after)*8/1e6, now, float64(before)*8/1e6, size)
				if float64(after) < mtuShare*float64(before) {
					t.Errorf("%s, MTU %d: %d bytes a second, before %d", d.name, mtu, after, before)
				}
			}
			_ = conn.Close()
		}
	})
}

// watch is how many bytes went to the client in that time, and the mean segment.
func (s *spied) watch(d time.Duration) (bytes, segment int) {
	s.mu.Lock()
	bytes, packets := s.bytes, s.packets
	s.mu.Unlock()
	time.Sleep(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes - bytes, (s.bytes - bytes) / max(1, s.packets-packets)
}

// lies makes ICMP errors about the segments that have just left: an attacker
// that guesses best.
func (s *spied) lies(from netip.Addr, mtu uint32) func(b []byte) int {
	var quoted []byte
	return func(b []byte) int {
		s.mu.Lock()
		quoted = append(quoted[:0], s.last...)
		s.mu.Unlock()
		return len(lab.AppendTooBig(b[:0], from, mtu, quoted))
	}
}
