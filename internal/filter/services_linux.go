package filter

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
)

// A trie of address prefixes, by protocol and port, has what services accept
// (struct service_key in bpf/tables.h). The length in front of a key, which the
// kernel requires, counts the bits of protocol, IP header and port too.
const (
	keyBitsBeforeAddr = 32
	mappedBits        = 96 // of an IPv4 address's form in packet.Addr

	ipv4HeaderSize, ipv6HeaderSize = 20, 40 // bytes
)

// What is accepted at an endpoint.
const (
	acceptsFlows    = programAcceptsACCEPTS_FLOWS // of authorized clients
	acceptsAll      = programAcceptsACCEPTS_ALL   // the service is open
	acceptsSYNKnock = programAcceptsACCEPTS_SYN_KNOCK
	acceptsUDPv1    = programAcceptsACCEPTS_UDP_V1
	acceptsUDPv2    = programAcceptsACCEPTS_UDP_V2
)

// endpoint is an entry of the trie.
type endpoint struct {
	proto  uint8
	port   uint16
	prefix netip.Prefix
}

func (e endpoint) key() *programServiceKey {
	k := &programServiceKey{
		Bits:     uint32(keyBitsBeforeAddr + e.prefix.Bits()),
		Protocol: e.proto,
		IpHeader: ipv6HeaderSize,
		Addr:     packet.AddrFrom(e.prefix.Masked().Addr()),
	}
	if e.prefix.Addr().Is4() {
		k.Bits += mappedBits
		k.IpHeader = ipv4HeaderSize
	}
	var port [2]byte
	binary.BigEndian.PutUint16(port[:], e.port)
	k.Port = binary.NativeEndian.Uint16(port[:])
	return k
}

// endpoints lists what is accepted where. The trie finds for an address only the
// longest prefix that contains it, so each prefix also accepts what the prefixes
// around it accept.
func endpoints(p *policy.Policy) map[endpoint]programAccepts {
	all := make(map[endpoint]programAccepts)
	for _, s := range p.Services() {
		tcp := acceptsFlows
		if s.Open() {
			tcp |= acceptsAll
		}
		if s.Methods&policy.MethodsSYN != 0 {
			tcp |= acceptsSYNKnock
		}
		all[endpoint{unix.IPPROTO_TCP, s.Port, s.Listen}] |= tcp

		var udp programAccepts
		if s.Methods&policy.MethodsV1 != 0 {
			udp |= acceptsUDPv1
		}
		if s.Methods&policy.MethodUDPv2 != 0 {
			udp |= acceptsUDPv2
		}
		if udp == 0 {
			continue
		}
		all[endpoint{unix.IPPROTO_UDP, s.Port, s.Listen}] |= udp
		if port := p.KnockPort(); port != 0 {
			all[endpoint{unix.IPPROTO_UDP, port, s.Listen}] |= udp
		}
	}
	inherit(all)
	return all
}

// inherit adds to what each prefix accepts what those around it accept. In the
// order of addresses, a prefix comes after all that contain it, so that these
// are on a stack when it is reached.
func inherit(all map[endpoint]programAccepts) {
	order := slices.SortedFunc(maps.Keys(all), func(a, b endpoint) int {
		return cmp.Or(cmp.Compare(a.proto, b.proto), cmp.Compare(a.port, b.port),
			a.prefix.Masked().Addr().Compare(b.prefix.Masked().Addr()), cmp.Compare(a.prefix.Bits(), b.prefix.Bits()))
	})

	var around []endpoint
	for _, e := range order {
		for len(around) > 0 && !around[len(around)-1].contains(e) {
			around = around[:len(around)-1]
		}
		if len(around) > 0 {
			all[e] |= all[around[len(around)-1]] // which has what is around it
		}
		around = append(around, e)
	}
}

// contains reports whether all of o is in e.
func (e endpoint) contains(o endpoint) bool {
	return e.proto == o.proto && e.port == o.port && e.prefix.Bits() <= o.prefix.Bits() && e.prefix.Contains(o.prefix.Addr())
}

// setServices makes the trie that of p.
func (f *Filter) setServices(p *policy.Policy) error {
	next := endpoints(p)
	for e, accepts := range next {
		if err := f.objects.Services.Put(e.key(), accepts); err != nil {
			return fmt.Errorf("add port %d to the packet filter: %w", e.port, err)
		}
	}
	for e := range f.endpoints {
		if _, ok := next[e]; ok {
			continue
		}
		if err := f.objects.Services.Delete(e.key()); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("remove port %d from the packet filter: %w", e.port, err)
		}
	}
	f.endpoints = next

	if !f.lock() {
		return nil
	}
	defer f.mu.Unlock()
	f.numEndpoints = len(next)
	legacy := uint64(0)
	if p.Legacy() {
		legacy = 1
	}
	set(&f.control.Legacy, legacy)
	return nil
}
