package admission

import (
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// splitFragments cuts a packet into fragments of size bytes each.
func splitFragments(b []byte, id uint32, size int) (all [][]byte) {
	header := 20
	if b[0]>>4 == 6 {
		header = 40
	}
	body := b[header:]
	for from := 0; from < len(body); from += size {
		to := min(from+size, len(body))
		all = append(all, fragmentOf(b[:header], id, from, to < len(body), body[from:to]))
	}
	return all
}

func fragmentOf(header []byte, id uint32, offset int, more bool, part []byte) []byte {
	b := append([]byte(nil), header...)
	if b[0]>>4 == 4 {
		flags := uint16(offset >> 3)
		if more {
			flags |= 0x2000
		}
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)+len(part)))
		binary.BigEndian.PutUint16(b[4:], uint16(id))
		binary.BigEndian.PutUint16(b[6:], flags)
		packettest.Checksums(b) // of the header alone: nothing follows yet
		return append(b, part...)
	}
	flags := uint16(offset)
	if more {
		flags |= 1
	}
	b = append(b, b[6], 0)
	b[6] = 44
	b = binary.BigEndian.AppendUint16(b, flags)
	b = append(binary.BigEndian.AppendUint32(b, id), part...)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	return b
}

// admitWhole is admit, and also returns the payload of the packet that results.
func (h *harness) admitWhole(b []byte) (Verdict, string) {
	h.Helper()
	p := packet.Packet{Data: append([]byte(nil), b...)}
	p.Parse()
	v := h.gate.Admit(&p)
	h.check()
	return v, string(p.Data[min(p.Payload, len(p.Data)):])
}

func (h *harness) heldFragments() int {
	n, _ := h.gate.fragments.r.Usage()
	return n
}

func TestFragmentsAreReassembledInAnyOrder(t *testing.T) {
	forEachFamily(func(addr string) {
		h := newHarness(t, allMethods())
		peer := h.peer(addr)
		peer.mustKnock(alice, "db", "")
		h.want(peer.syn(40000, "db"), ReasonGrant)
		peer.mustEnter(40000, "db", alice)
		data := strings.Repeat("0123456789abcdef", 50)
		b := peer.tcp(40000, "db", packet.ACK|packet.PSH, 1001, 1, data)
		random := rand.New(rand.NewPCG(1, 1))
		for id := range uint32(50) {
			all := splitFragments(b, id, 8*(3+random.IntN(30)))
			random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			for i, f := range all {
				v, payload := h.admitWhole(f)
				switch last := i == len(all)-1; {
				case !last && (v.Action != Hold || v.Reason != ReasonFragment):
					t.Fatalf("fragment %d of %d: %v %v", i, len(all), v.Action, v.Reason)
				case last && (v.Action != Pass || v.Reason != ReasonFlow || payload != data):
					t.Fatalf("the last of %d: %v %v, %d bytes", len(all), v.Action, v.Reason, len(payload))
				}
			}
			if h.heldFragments() != 0 {
				t.Fatal("something is left")
			}
		}
	})
}

func TestFragmentsOfUnknownSourceAreDropped(t *testing.T) {
	forEachFamily(func(addr string) {
		h := newHarness(t, allMethods())
		peer := h.peer(addr)
		b := peer.tcp(40000, "db", packet.ACK, 1001, 1, strings.Repeat("x", 400))
		outsider := func(what string) {
			t.Helper()
			for _, f := range splitFragments(b, 7, 64) {
				if got := h.admit(f); got.Action != Drop {
					t.Fatalf("%s: %v", what, got.Reason)
				}
			}
			if h.heldFragments() != 0 {
				t.Errorf("%s: its fragments are kept", what)
			}
		}
		outsider("an unauthorized host")
		h.want(peer.junk(), ReasonKnock)
		outsider("a source whose junk waits")
		h.decide()
		h.want(peer.syn(1, "web"), ReasonOpen) // which any host can forge in its name
		outsider("a source of a SYN to an open service")
		peer.mustKnock(alice, "db", "")
		outsider("a source with a grant")
		h.want(peer.syn(2, "db"), ReasonGrant)
		outsider("a source of a SYN on a grant")
		peer.mustEnter(2, "db", alice)
		if got := h.admit(splitFragments(b, 7, 64)[0]); got.Reason != ReasonFragment {
			t.Errorf("a source with a flow: %v", got.Reason)
		}
		h.gate.Remove(peer.tuple(2, "db"))
		for _, f := range splitFragments(b, 7, 64)[1:] {
			if got := h.admit(f); got.Action != Drop {
				t.Errorf("after the flow: %v", got.Reason)
			}
		}
	})
}

func TestFragmentedKnocksAndSYNsAreDropped(t *testing.T) {
	forEachFamily(func(addr string) {
		h := newHarness(t, allMethods(withLegacySequences))
		peer := h.peer(addr)
		peer.mustKnock(alice, "many", "")
		h.want(peer.syn(40000, "many"), ReasonGrant)
		peer.mustEnter(40000, "many", alice)
		h.events = nil
		id := uint32(100) // or the rest of one case could complete another
		long := func(m *protocol.KnockMessage) []byte { return peer.sealKnock(alice, "ssh", *m) }
		m := peer.message(sessionID(1))
		for name, b := range map[string][]byte{
			"udp": long(&m), "udp-v2": peer.v2(alice, "ssh"), "tcp-syn": peer.synKnock(alice, "ssh", 0),
			"tcp-syn-seq": peer.synPart(alice, "ssh", 0, 0), "legacy": peer.legacyPart(alice, "ssh", 0, 0),
			"a SYN with a grant": peer.syn(40001, "many"), "a SYN to an open service": peer.syn(40001, "web"),
			"a SYN of the flow":        peer.syn(40000, "many"),
			"data of no flow":          peer.tcp(40009, "many", packet.ACK, 1001, 1, strings.Repeat("x", 64)),
			"with a bad checksum":      corrupted(peer.tcp(40000, "many", packet.ACK, 1001, 1, strings.Repeat("x", 64))),
			"data for another address": peer.tcp(40000, "ssh", packet.ACK, 1001, 1, strings.Repeat("x", 64)),
		} {
			size := 24
			if strings.HasPrefix(name, "tcp") || name == "legacy" {
				size = 32 // without it one would be a tiny fragment: the whole header is required
			}
			id++
			all := splitFragments(b, id, size)
			if len(all) == 1 { // all in one fragment, which says that more will come
				all = [][]byte{fragmentOf(b[:len(b)-len(peer.transport(b))], id, 0, true, peer.transport(b))}
			}
			for _, f := range all {
				if got := h.admit(f); got.Action == Pass {
					t.Errorf("%s: passed as %v", name, got.Reason)
				}
			}
			h.decide()
		}
		if len(h.events) != 0 || h.gate.knocks.SYNSequences() != 0 || h.gate.Stats().Flows != 1 {
			t.Errorf("%+v, %d sequences, %d flows", h.events, h.gate.knocks.SYNSequences(), h.gate.Stats().Flows)
		}
		h.Advance(packet.DefaultTimeout)
		h.admit(splitFragments(peer.tcp(40000, "many", packet.ACK, 1001, 1, strings.Repeat("x", 64)), 10, 24)[0])
		if h.heldFragments() != 1 {
			t.Errorf("%d unfinished packets are kept", h.heldFragments())
		}
	})
}

// transport returns what follows the IP header.
func (peer testPeer) transport(b []byte) []byte { return b[peer.headers()-8:] }

func corrupted(b []byte) []byte {
	b[len(b)-1] ^= 1
	return b
}

func TestFragmentsOverlappingOrTiny(t *testing.T) {
	forEachFamily(func(addr string) {
		h := newHarness(t, allMethods())
		peer := h.peer(addr)
		h.want(peer.syn(1, "web"), ReasonOpen)
		peer.mustEnter(1, "web", alice)
		b := peer.tcp(1, "web", packet.ACK, 1001, 1, strings.Repeat("x", 300))
		header, body := b[:peer.headers()-8], peer.transport(b)
		fault := func(f packet.DropReason) uint64 { return h.gate.stats.faults[f].Load() }
		for name, c := range map[string]struct {
			parts [][]byte
			want  packet.DropReason
		}{
			"overlapping": {[][]byte{
				fragmentOf(header, 1, 0, true, body[:64]), fragmentOf(header, 1, 56, true, body[56:128]),
			}, packet.DropFragmentOverlap},
			"tiny":              {[][]byte{fragmentOf(header, 2, 0, true, body[:8])}, packet.DropTinyFragment},
			"inside the header": {[][]byte{fragmentOf(header, 3, 8, true, body[8:64])}, packet.DropTinyFragment},
		} {
			before := fault(c.want)
			for i, f := range c.parts {
				if got := h.admit(f); (got.Action == Drop) != (i == len(c.parts)-1) {
					t.Errorf("%s, fragment %d: %v", name, i, got.Reason)
				}
			}
			if fault(c.want) == before || h.heldFragments() != 0 {
				t.Errorf("%s: counted %d times, %d kept", name, fault(c.want)-before, h.heldFragments())
			}
		}
		h.want(peer.tcp(1, "web", packet.ACK, 1001, 1, "whole"), ReasonFlow)
	})
}

func TestFragmentsAllocateNothing(t *testing.T) {
	h := newHarness(t, allMethods())
	peer := h.peer("192.0.2.1")
	h.want(peer.syn(1, "web"), ReasonOpen)
	peer.mustEnter(1, "web", alice)
	all := splitFragments(peer.tcp(1, "web", packet.ACK, 1001, 1, strings.Repeat("x", 1000)), 1, 512)
	alien := splitFragments(h.peer("192.0.2.2").tcp(1, "web", packet.ACK, 1001, 1, strings.Repeat("x", 1000)), 1, 512)
	var p packet.Packet
	if n := testing.AllocsPerRun(500, func() {
		for _, f := range append(alien[:2:2], all...) {
			p = packet.Packet{Data: f}
			p.Parse()
			h.gate.Admit(&p)
		}
		h.Advance(time.Millisecond)
	}); n > 1 { // the slice above
		t.Errorf("%v allocations", n)
	}
}
