package policy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

func service(name, listen string, port uint16, change ...func(*Service)) Service {
	s := Service{Name: name, Listen: netip.MustParsePrefix(listen), Port: port, Mode: ModeKnock, Methods: MethodUDP}
	for _, c := range change {
		c(&s)
	}
	return s
}

func TestPolicyRejectsContradictions(t *testing.T) {
	for _, c := range []struct {
		name string
		o    Options
		ok   bool
	}{
		{"nothing to protect", Options{Window: time.Second}, true},
		{"no window", Options{}, false},
		{"no port", Options{Window: time.Second, Services: []Service{service("a", "10.0.0.1/32", 0)}}, false},
		{"no address", Options{Window: time.Second, Services: []Service{{Name: "a", Port: 1}}}, false},
		{"one name twice", Options{Window: time.Second, Services: []Service{service("a", "10.0.0.1/32", 1), service("a", "10.0.0.1/32", 2)}}, false},
		{"one port twice", Options{Window: time.Second, Services: []Service{service("a", "10.0.0.1/32", 1), service("b", "10.0.0.0/24", 1)}}, false},
		{"one port on two addresses", Options{Window: time.Second, Services: []Service{service("a", "10.0.0.1/32", 1), service("b", "10.0.0.2/32", 1)}}, true},
	} {
		if _, err := New(c.o); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestPolicyFindsServices(t *testing.T) {
	p, err := New(Options{Window: time.Second, KnockPort: 9, Services: []Service{
		service("a", "10.0.0.0/24", 1), service("b", "10.0.1.0/24", 1), service("c", "fd77::/64", 65535),
		service("auth", "10.0.0.0/24", 7, func(s *Service) { s.Mode = ModeAuth }),
		service("syn", "10.0.2.0/24", 8, func(s *Service) { s.Methods = MethodSYN }),
	}})
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]string{
		"10.0.0.1:1": "a", "10.0.0.255:1": "a", "10.0.1.1:1": "b", "[fd77::5]:65535": "c", "[::ffff:10.0.0.1]:1": "a",
		"10.0.2.1:1": "", "10.0.0.1:2": "", "[fd77:0:0:1::]:65535": "", "10.0.0.1:0": "",
	} {
		got := ""
		if s := p.Service(netip.MustParseAddrPort(addr)); s != nil {
			got = s.Name
		}
		if got != want {
			t.Errorf("%s: %q, want %q", addr, got, want)
		}
	}
	for _, c := range []struct {
		dst  string
		want bool
	}{
		{"10.0.0.1:1", true}, {"10.0.0.1:9", true}, {"10.0.1.1:9", true}, {"[fd77::1]:9", true}, {"[fd77::1]:65535", true},
		{"10.0.2.1:9", false}, {"10.0.0.1:7", false}, {"10.0.2.1:8", false}, {"[fd77::1]:1", false}, {"10.0.0.1:2", false},
	} {
		dst := netip.MustParseAddrPort(c.dst)
		if got := p.MethodsAt(packet.AddrFrom(dst.Addr()), dst.Port()); (got != 0) != c.want {
			t.Errorf("knocks at %s: %b", c.dst, got)
		}
	}
	if p.services[0].MACPort != 1 || p.services[2].MACPort != 65535 {
		t.Error("the port in MACs is not the service's")
	}
}

// A policy takes memory for its clients and for its services, not for each pair.
func TestPolicySharesClientsBetweenServices(t *testing.T) {
	const clients, services = 200, 50
	all := numberedClients(clients)
	o := Options{Window: 30 * time.Second, KnockPort: 62201}
	address := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 1, byte(n)}) }
	for n := range services {
		o.Services = append(o.Services, service(fmt.Sprint(n), "10.0.0.1/32", 22, func(s *Service) {
			s.Shared, s.Methods = all, MethodsUDP|MethodsSYN
			s.Listen = netip.PrefixFrom(address(n), 32)
		}))
	}
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	sets := make(map[*clientSet]bool)
	for _, s := range p.services {
		for _, set := range s.sets {
			sets[set] = true
		}
		if s.Client("unknown") != nil || s.Client(all[1].ID) != all[1] {
			t.Fatalf("%s: its clients are not found", s.Name)
		}
	}
	if len(sets) != 1 || len(p.holders) != clients || len(p.templates) > clients {
		t.Errorf("%d sets, %d clients, %d templates", len(sets), len(p.holders), len(p.templates))
	}
	for n := range services {
		if s := p.Service(netip.AddrPortFrom(address(n), 22)); s == nil || s.Name != fmt.Sprint(n) {
			t.Errorf("service %d is not found at its address: %+v", n, s)
		}
	}
}

func TestPolicyLimitsPrecomputedKnocks(t *testing.T) {
	all := numberedClients(3000)
	o := Options{Window: 30 * time.Second, KnockPort: 62201}
	for n := range 200 {
		o.Services = append(o.Services, service(fmt.Sprint(n), "10.77.0.1/32", uint16(1000+n), func(s *Service) {
			s.Clients, s.Methods = all, MethodUDPv2|MethodsSYN
		}))
	}
	if _, err := New(o); err == nil {
		t.Fatal("accepted")
	}
	for i := range o.Services {
		o.Services[i].Methods = MethodUDPv2
	}
	if _, err := New(o); err != nil {
		t.Error(err)
	}
}

// numberedClients returns n clients with a key each.
func numberedClients(n int) []*Client {
	all := make([]*Client, n)
	for i := range all {
		name := fmt.Sprintf("client-%05d", i)
		id, err := protocol.NewClient(name, []byte(strings.Repeat(name, 3)))
		if err != nil {
			panic(err)
		}
		all[i] = NewClient(id)
	}
	return all
}
