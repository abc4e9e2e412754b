//go:build linux

package client

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"github.com/vishvananda/netlink"

	"github.com/knockgw/knockgw/protocol"
)

const (
	// connectTime limits a connection that nothing answers: long enough for its
	// SYN to be sent.
	connectTime = 100 * time.Millisecond

	// attemptTime limits an attempt, in case the machine is busy.
	attemptTime = 10 * time.Second
)

// preferAddr makes the system choose addr for connections of its family.
func (h host) preferAddr(t *testing.T, addr netip.Addr) {
	t.Helper()
	link, err := netlink.LinkByName("test0")
	if err != nil {
		t.Fatal(err)
	}
	all := &net.IPNet{IP: make(net.IP, addr.BitLen()/8), Mask: net.CIDRMask(0, addr.BitLen())}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: all, Src: addr.AsSlice()}
	if err := netlink.RouteReplace(route); err != nil {
		t.Fatal(err)
	}
}

// removeAddr removes an address from the host.
func (h host) removeAddr(t *testing.T, addr netip.Addr) {
	t.Helper()
	link, err := netlink.LinkByName("test0")
	if err != nil {
		t.Fatal(err)
	}
	bits := map[bool]int{true: 24, false: 64}[addr.Is4()] // as in hostAddrs
	network := &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(bits, addr.BitLen())}
	if err := netlink.AddrDel(link, &netlink.Addr{IPNet: network}); err != nil {
		t.Fatal(err)
	}
}

// attemptWithChange makes one attempt with d and calls between after its knock.
func attemptWithChange(t *testing.T, d *Dialer, target netip.AddrPort, between func()) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), attemptTime)
	defer cancel()
	d.Net.Timeout = connectTime
	conn, step, err := d.reachTarget(ctx, target, []byte(testSession16), func(err error) {
		if err != nil {
			t.Fatal(err)
		}
		between()
	})
	if err == nil {
		_ = conn.Close()
		t.Fatal("a connection where nothing answers")
	}
	if step != StepConnect {
		t.Errorf("step %s", step)
	}
	return err
}

// sources returns the source addresses of the host's next packets to target: the
// parts of a knock, and the SYN of the connection.
func (h host) sources(t *testing.T, target netip.AddrPort, method string, parts int) []netip.Addr {
	t.Helper()
	layer := layers.LayerTypeUDP
	if method == protocol.MethodTCPSYN || method == protocol.MethodTCPSYNSeq {
		layer = layers.LayerTypeTCP
	}
	var all []netip.Addr
	for i := range parts + 1 {
		if i == parts {
			layer = layers.LayerTypeTCP
		}
		_, p, err := h.next(layer)
		if err != nil {
			t.Fatal(err)
		}
		flow := p.NetworkLayer().NetworkFlow()
		if to, _ := netip.AddrFromSlice(flow.Dst().Raw()); to != target.Addr() {
			t.Errorf("a packet to %v", to)
		}
		source, _ := netip.AddrFromSlice(flow.Src().Raw())
		all = append(all, source)
	}
	return all
}

func TestAttemptUsesOneSource(t *testing.T) {
	h := newHost(t)
	for _, c := range []struct {
		target     netip.AddrPort
		before     netip.Addr // preferred before the knock
		afterwards netip.Addr
	}{
		{target4, source4, source4.Next()},
		{target6, source6, source6.Next()},
	} {
		for method, parts := range map[string]int{
			protocol.MethodUDP: 1, protocol.MethodUDPSeq: 3, protocol.MethodUDPv2: 1,
			protocol.MethodTCPSYN: 1, protocol.MethodTCPSYNSeq: 3,
		} {
			for name, local := range map[string]*net.TCPAddr{
				"no source": nil, "a port": {Port: 50123}, "an address": {IP: c.afterwards.AsSlice()},
			} {
				d := &Dialer{
					Identity: testIdentity(t), Method: method, Sequence: Sequence{Gap: testGap},
					// The beginning of a slot: at the end, a sequence would
					// wait.
					Now: func() time.Time { return time.Unix(int64(DefaultSlot/time.Second)*1e6, 0) },
				}
				want := c.before
				if local != nil {
					d.Net.LocalAddr = local
				}
				if local != nil && local.IP != nil {
					want = c.afterwards
				}
				h.preferAddr(t, c.before)
				err := attemptWithChange(t, d, c.target, func() { h.preferAddr(t, c.afterwards) })
				if !isTransient(err) || isSourceGone(err) {
					t.Errorf("%s from %s: %v", method, name, err)
				}
				sources := h.sources(t, c.target, method, parts)
				if slices.ContainsFunc(sources, func(a netip.Addr) bool { return a != want }) {
					t.Errorf("%s from %s: packets came from %v, want %v", method, name, sources, want)
				}
			}
		}
	}
}

func TestAttemptSourceRemoved(t *testing.T) {
	for _, c := range []struct {
		target netip.AddrPort
		gone   netip.Addr
	}{{target4, source4.Next()}, {target6, source6.Next()}} {
		for name, local := range map[string]net.Addr{"chosen": nil, "given": &net.TCPAddr{IP: c.gone.AsSlice()}} {
			t.Run(name, func(t *testing.T) {
				h := newHost(t)
				h.preferAddr(t, c.gone)
				d := &Dialer{Identity: testIdentity(t), Method: protocol.MethodTCPSYN}
				d.Net.LocalAddr = local
				err := attemptWithChange(t, d, c.target, func() {
					h.preferAddr(t, map[bool]netip.Addr{true: source4, false: source6}[c.gone.Is4()])
					h.removeAddr(t, c.gone)
				})
				if isSourceGone(err) != (local == nil) || isTransient(err) != (local == nil) {
					t.Errorf("from an address that was %s: %v", name, err)
				}
				if local != nil {
					return
				}
				h.sources(t, c.target, d.Method, 0) // the knock was sent
				if err := attemptWithChange(t, d, c.target, func() {}); isSourceGone(err) {
					t.Errorf("the next attempt has the same address: %v", err)
				}
				if sources := h.sources(t, c.target, d.Method, 1); slices.Contains(sources, c.gone) {
					t.Errorf("the next attempt came from %v", sources)
				}
			})
		}
	}
}
