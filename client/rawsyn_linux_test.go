//go:build linux

package client

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/knockgw/knockgw/protocol"
)

// The host of the tests has two addresses of each IP version, and the test
// receives everything that it sends:
//
//	10.1.1.2 10.1.1.3       |
//	fd01:1::2 fd01:1::3     | TUN --- the test
var hostAddrs = []string{"10.1.1.2/24", "10.1.1.3/24", "fd01:1::2/64", "fd01:1::3/64"}

// host is the other end of the host's only link.
type host struct{ *os.File }

// newHost moves the test's thread into its own network namespace, where it
// stays until the thread ends with the test: only reading and writing packets
// may happen in another goroutine.
func newHost(t *testing.T) host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("this test makes a network namespace and so needs root")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	ns, err := netns.New()
	if err != nil {
		t.Skipf("this test needs a network namespace: %v", err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	tunnel := newTunnel(t)
	t.Cleanup(func() { _ = tunnel.Close() })
	link, err := netlink.LinkByName("test0")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range hostAddrs {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			t.Fatal(err)
		}
		if addr.IP.To4() == nil {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(link, addr); err != nil {
			t.Skipf("this test needs both versions of IP: %v", err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
	for _, everything := range []string{"0.0.0.0/0", "::/0"} {
		_, dst, err := net.ParseCIDR(everything)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst}); err != nil {
			t.Fatal(err)
		}
	}
	return host{tunnel}
}

func newTunnel(t *testing.T) *os.File {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("this test needs a TUN device: %v", err)
	}
	request, err := unix.NewIfreq("test0")
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		t.Fatal(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "TUN device") // pollable, now that it is a TUN device
}

// next returns the next packet of a protocol that the host sends.
func (h host) next(layer gopacket.LayerType) ([]byte, gopacket.Packet, error) {
	if err := h.SetReadDeadline(time.Now().Add(testTimeout)); err != nil {
		return nil, nil, err
	}
	b := make([]byte, 2048)
	for {
		n, err := h.Read(b)
		if err != nil {
			return nil, nil, err
		}
		first := layers.LayerTypeIPv4
		if b[0]>>4 == 6 {
			first = layers.LayerTypeIPv6
		}
		p := gopacket.NewPacket(b[:n], first, gopacket.Default)
		if p.Layer(layer) != nil {
			return b[:n], p, nil
		}
	}
}

// connectionSource returns the source of the kernel's own SYN to target.
func (h host) connectionSource(t *testing.T, d *Dialer, target netip.AddrPort) netip.Addr {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	conn, err := d.Net.DialContext(ctx, "tcp", target.String())
	if err == nil {
		_ = conn.Close()
		t.Fatal("the connection was answered")
	}
	_, p, err := h.next(layers.LayerTypeTCP)
	if err != nil {
		t.Fatal(err)
	}
	source, _ := netip.AddrFromSlice(p.NetworkLayer().NetworkFlow().Src().Raw())
	return source
}

func TestRawSYNUnmodified(t *testing.T) {
	h := newHost(t)
	for _, target := range []netip.AddrPort{target4, target6} {
		for _, local := range []net.Addr{nil, &net.TCPAddr{IP: net.ParseIP("10.1.1.3")}, &net.TCPAddr{IP: net.ParseIP("fd01:1::3")}} {
			if l, ok := local.(*net.TCPAddr); ok && (l.IP.To4() != nil) != target.Addr().Is4() {
				continue
			}
			d := &Dialer{Identity: testIdentity(t), Sequence: Sequence{Gap: testGap}}
			d.Net.LocalAddr = local
			source := h.connectionSource(t, d, target)
			asked := 0
			d.Net.Control = func(string, string, syscall.RawConn) error { asked++; return nil }
			for method, parts := range map[string]int{protocol.MethodTCPSYN: 1, protocol.MethodTCPSYNSeq: 3} {
				asked = 0
				d.Method = method
				if err := d.Knock(t.Context(), target, nil); err != nil {
					t.Fatalf("%s to %v from %v: %v", method, target, local, err)
				}
				if asked != 2 { // for the source address and for the packets
					t.Errorf("%s: Control was asked %d times", method, asked)
				}
				slot := protocol.Slot(time.Now(), DefaultSlot) // a single SYN may be of the previous one
				for i := range parts {
					packet, _, err := h.next(layers.LayerTypeTCP)
					if err != nil {
						t.Fatal(err)
					}
					p := parseSYN(t, packet)
					s := protocol.NewScratch()
					fields := []protocol.SYNFields{d.Identity.SYN(s, 22, slot), d.Identity.SYN(s, 22, slot-1)}
					if parts > 1 {
						fields = []protocol.SYNFields{d.Identity.SYNPart(s, 22, slot, i), d.Identity.SYNPart(s, 22, slot-1, i)}
					}
					if p.src.Addr() != source || p.dst != target || p.fields != fields[0] && p.fields != fields[1] {
						t.Errorf("%s from %v: part %d is %+v, want %+v from %v", method, local, i, p, fields[0], source)
					}
				}
			}
		}
	}
}

func TestRawSYNWithoutCapability(t *testing.T) {
	runtime.LockOSThread() // never unlocked: the thread has lost the capability
	if os.Geteuid() == 0 {
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var sets [2]unix.CapUserData
		if err := unix.Capget(&header, &sets[0]); err != nil {
			t.Skip(err)
		}
		sets[0].Effective &^= 1 << unix.CAP_NET_RAW
		if err := unix.Capset(&header, &sets[0]); err != nil {
			t.Skip(err)
		}
	}
	for _, method := range []string{protocol.MethodTCPSYN, protocol.MethodTCPSYNSeq} {
		d := &Dialer{Identity: testIdentity(t), Method: method}
		err := d.Knock(t.Context(), netip.MustParseAddrPort("127.0.0.1:9"), nil)
		var raw *RawSocketError
		if !errors.As(err, &raw) || !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: %v", method, err)
		}
	}
}

func TestKnockUDPSequencePortUnreachable(t *testing.T) {
	h := newHost(t)
	for range 3 {
		refused := make(chan error)
		go func() {
			for i := range DefaultSequenceLength {
				packet, p, err := h.next(layers.LayerTypeUDP)
				if err == nil && i < DefaultSequenceLength-1 {
					err = h.refuse(packet, p)
				}
				if err != nil {
					refused <- err
					return
				}
			}
			refused <- nil
		}()
		d := &Dialer{
			Identity: testIdentity(t), Method: protocol.MethodUDPPassiveSeq,
			// Long enough for the refusals to arrive.
			Sequence: Sequence{Gap: 20 * time.Millisecond},
		}
		if err := d.Knock(t.Context(), target4, nil); err != nil {
			t.Error(err)
		}
		if err := <-refused; err != nil {
			t.Fatal(err)
		}
	}
}

// refuse answers an IPv4 packet with ICMP port unreachable.
func (h host) refuse(packet []byte, p gopacket.Packet) error {
	of := p.NetworkLayer().(*layers.IPv4)
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolICMPv4, SrcIP: of.DstIP, DstIP: of.SrcIP}
	icmp := &layers.ICMPv4{
		TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodePort),
	}
	b := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(b, options, ip, icmp, gopacket.Payload(packet)); err != nil {
		return err
	}
	_, err := h.Write(b.Bytes())
	return err
}
