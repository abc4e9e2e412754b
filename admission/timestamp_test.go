package admission

import (
	"testing"

	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/packet"
)

// segment returns a segment of peer to db with TCP options.
func (peer testPeer) segment(flags uint8, seq, ack uint32, options []byte) []byte {
	s := peer.server("db")
	return packettest.TCP{
		Src: peer.tuple(40000, "db").Source(), Dst: s, Flags: flags, Seq: seq, Ack: ack, Options: options,
	}.Packet()
}

func TestGateReportsMissingTimestamp(t *testing.T) {
	forEachFamily(func(addr string) {
		for _, agreed := range []bool{true, false} {
			h := newHarness(t)
			peer := h.peer(addr)
			peer.mustKnock(alice, "db", "")
			h.want(peer.syn(40000, "db"), ReasonGrant)
			var options []byte
			if agreed {
				options = []byte{1, 1, 8, 10, 0, 0, 0, 9, 1, 2, 3, 4}
			}
			h.egress(packettest.TCP{
				Src: peer.server("db"), Dst: peer.tuple(40000, "db").Source(), Flags: packet.SYN | packet.ACK, Seq: 5000, Ack: 1001, Options: options,
			}.Packet())
			if r := h.want(peer.segment(packet.ACK, 1001, 5001, []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 9}), ReasonFlow); r.Unstamped {
				t.Errorf("%s: a segment with a timestamp: %+v", addr, r)
			}
			for _, options := range [][]byte{nil, {1, 1, 1, 1}, {8, 2, 1, 1}} {
				r := h.want(peer.segment(packet.ACK, 1001, 5001, options), ReasonFlow)
				if r.Unstamped != agreed || agreed && r.Timestamp != 0x01020304 {
					t.Errorf("%s, agreed %v: options %v: %+v", addr, agreed, options, r)
				}
			}
			peer.mustEnter(40000, "db", alice)
			if r := h.want(peer.segment(packet.ACK, 1001, 5001, nil), ReasonFlow); r.Unstamped {
				t.Errorf("%s: a segment after the handshake: %+v", addr, r)
			}
		}
	})
}
