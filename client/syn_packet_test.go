package client

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/knockgw/knockgw/protocol"
)

// testIdentity is the identity of the recorded libknock client.
func testIdentity(t testing.TB) *protocol.Client {
	t.Helper()
	c, err := protocol.NewClient("client-001", []byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The packets are those of a libknock client, from the IP header on: a tcp-syn
// knock and a tcp-syn-seq of three parts. protocol/testdata has their fields.
func TestSYNPacketMatchesLibknock(t *testing.T) {
	const dialled = "10.0.1.1:8443"
	for i, recorded := range []struct {
		unixMS int64
		src    string
		id     uint16
		packet string
	}{
		{1795369221626, "10.0.1.2:35428", 0x73ab, "4500003473ab00004006f1160a0001020a000101" +
			"8a6420fbca74e0070000000080024b9c7b6b00000101080ad5546e9000000000"},
		{1795369221677, "10.0.1.2:59174", 0x1656, "450000341656000040064e6c0a0001020a000101" +
			"e72620fb690435240000000080023722499300000101080a79d1bff700000000"},
		{1795369221757, "10.0.1.2:43333", 0x9c80, "450000349c8000004006c8410a0001020a000101" +
			"a94520fbe70a2f3d0000000080021e2872ba00000101080abc38332500000000"},
		{1795369221838, "10.0.1.2:35581", 0x72db, "4500003472db00004006f1e60a0001020a000101" +
			"8afd20fb158d2fb50000000080024404b87000000101080a57821b9700000000"},
	} {
		want, err := hex.DecodeString(recorded.packet)
		if err != nil {
			t.Fatal(err)
		}
		slot := protocol.Slot(time.UnixMilli(recorded.unixMS), DefaultSlot)
		p := synPacket{src: netip.MustParseAddrPort(recorded.src), dst: netip.MustParseAddrPort(dialled), id: recorded.id}
		if i == 0 {
			p.fields = testIdentity(t).SYN(protocol.NewScratch(), p.dst.Port(), slot)
		} else {
			p.fields = testIdentity(t).SYNPart(protocol.NewScratch(), p.dst.Port(), slot, i-1)
		}
		if got := p.append(nil); !bytes.Equal(got, want) {
			t.Errorf("SYN %d:\n got %x\nwant %x", i, got, want)
		}
	}
}

func TestSYNPacketMatchesGopacket(t *testing.T) {
	for _, addrs := range [][2]string{
		{"10.0.1.2:35428", "10.0.1.1:8443"},
		{"255.255.255.254:65535", "255.255.255.253:65535"},
		{"[fd01:1::2]:35428", "[fd77::1]:22"},
		{"[ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe]:65535", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffd]:65535"},
	} {
		for _, fields := range []protocol.SYNFields{
			{Seq: 0, Window: 1, TSVal: 0},
			{Seq: 0x01020304, Window: 0x0506, TSVal: 0x0708090a},
			{Seq: 0xffffffff, Window: 0xffff, TSVal: 0xffffffff},
		} {
			p := synPacket{
				src: netip.MustParseAddrPort(addrs[0]), dst: netip.MustParseAddrPort(addrs[1]),
				id: 0xbeef, fields: fields,
			}
			prefix := []byte("not ours")
			got := p.append(prefix)
			if want := append(prefix, gopacketSYN(t, &p)...); !bytes.Equal(got, want) {
				t.Errorf("%s to %s:\n got %x\nwant %x", addrs[0], addrs[1], got, want)
			}
		}
	}
}

// gopacketSYN returns p as gopacket serializes it, with lengths and checksums.
func gopacketSYN(t *testing.T, p *synPacket) []byte {
	t.Helper()
	tcp := &layers.TCP{
		SrcPort: layers.TCPPort(p.src.Port()), DstPort: layers.TCPPort(p.dst.Port()),
		Seq: p.fields.Seq, SYN: true, Window: p.fields.Window,
		Options: []layers.TCPOption{
			{OptionType: layers.TCPOptionKindNop}, {OptionType: layers.TCPOptionKindNop},
			{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: []byte{
				byte(p.fields.TSVal >> 24), byte(p.fields.TSVal >> 16), byte(p.fields.TSVal >> 8), byte(p.fields.TSVal),
				0, 0, 0, 0,
			}},
		},
	}
	src, dst := p.src.Addr().AsSlice(), p.dst.Addr().AsSlice()
	var ip gopacket.NetworkLayer = &layers.IPv4{
		Version: 4, TTL: 64, Id: p.id, Protocol: layers.IPProtocolTCP, SrcIP: src, DstIP: dst,
	}
	if p.dst.Addr().Is6() {
		ip = &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: src, DstIP: dst}
	}
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	b := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(b, options, ip.(gopacket.SerializableLayer), tcp); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// parseSYN returns a packet as a synPacket. It fails the test if any constant
// field differs.
func parseSYN(t *testing.T, packet []byte) synPacket {
	t.Helper()
	first := layers.LayerTypeIPv4
	if len(packet) > 0 && packet[0]>>4 == 6 {
		first = layers.LayerTypeIPv6
	}
	decoded := gopacket.NewPacket(packet, first, gopacket.Default)
	tcp, ok := decoded.Layer(layers.LayerTypeTCP).(*layers.TCP)
	if !ok || decoded.ErrorLayer() != nil {
		t.Fatalf("no TCP in %x", packet)
	}
	var p synPacket
	var src, dst netip.Addr
	switch ip := decoded.NetworkLayer().(type) {
	case *layers.IPv4:
		p.id = ip.Id
		src, _ = netip.AddrFromSlice(ip.SrcIP)
		dst, _ = netip.AddrFromSlice(ip.DstIP)
	case *layers.IPv6:
		src, _ = netip.AddrFromSlice(ip.SrcIP)
		dst, _ = netip.AddrFromSlice(ip.DstIP)
	}
	p.src = netip.AddrPortFrom(src, uint16(tcp.SrcPort))
	p.dst = netip.AddrPortFrom(dst, uint16(tcp.DstPort))
	p.fields.Seq, p.fields.Window = tcp.Seq, tcp.Window
	for _, o := range tcp.Options {
		if o.OptionType == layers.TCPOptionKindTimestamps && len(o.OptionData) == 8 {
			v := o.OptionData
			p.fields.TSVal = uint32(v[0])<<24 | uint32(v[1])<<16 | uint32(v[2])<<8 | uint32(v[3])
		}
	}
	if want := gopacketSYN(t, &p); !bytes.Equal(packet, want) {
		t.Fatalf("\n got %x\nwant %x", packet, want)
	}
	return p
}
