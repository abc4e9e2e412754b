package admission

import (
	"net/netip"
	"testing"
	"time"

	"github.com/knockgw/knockgw/packet"
)

func service(name, listen string, port uint16, change ...func(*Service)) Service {
	s := Service{Name: name, Listen: netip.MustParsePrefix(listen), Port: port, Mode: ModeKnock, Methods: FamilyUDP}
	for _, c := range change {
		c(&s)
	}
	return s
}

func TestAPolicyRefusesWhatContradictsItself(t *testing.T) {
	for _, c := range []struct {
		name string
		o    PolicyOptions
		ok   bool
	}{
		{"nothing to protect", PolicyOptions{Window: time.Second}, true},
		{"no window", PolicyOptions{}, false},
		{"no port", PolicyOptions{Window: time.Second, Services: []Service{service("a", "10.0.0.1/32", 0)}}, false},
		{"no address", PolicyOptions{Window: time.Second, Services: []Service{{Name: "a", Port: 1}}}, false},
		{"one name twice", PolicyOptions{Window: time.Second, Services: []Service{service("a", "10.0.0.1/32", 1), service("a", "10.0.0.1/32", 2)}}, false},
		{"one port twice", PolicyOptions{Window: time.Second, Services: []Service{service("a", "10.0.0.1/32", 1), service("b", "10.0.0.0/24", 1)}}, false},
		{"one port on two addresses", PolicyOptions{Window: time.Second, Services: []Service{service("a", "10.0.0.1/32", 1), service("b", "10.0.0.2/32", 1)}}, true},
	} {
		if _, err := NewPolicy(c.o); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestAPolicyFindsServicesByTheAddressAndPortDialled(t *testing.T) {
	p, err := NewPolicy(PolicyOptions{Window: time.Second, KnockPort: 9, Services: []Service{
		service("a", "10.0.0.0/24", 1), service("b", "10.0.1.0/24", 1), service("c", "fd77::/64", 65535),
		service("auth", "10.0.0.0/24", 7, func(s *Service) { s.Mode = ModeAuth }),
		service("syn", "10.0.2.0/24", 8, func(s *Service) { s.Methods = FamilySYN }),
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
		if got := p.knockable(packet.AddrFrom(dst.Addr()), dst.Port()); (got != 0) != c.want {
			t.Errorf("knocks at %s: %b", c.dst, got)
		}
	}
	if p.Services()[0].MACPort != 1 || p.Services()[2].MACPort != 65535 {
		t.Error("the port in MACs is not the service's")
	}
}
