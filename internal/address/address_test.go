package address

import (
	"net/netip"
	"strings"
	"testing"
)

func TestParseDialValid(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.1:22": "10.0.0.1:22", "[fd77::1]:22": "[fd77::1]:22", "[::ffff:10.0.0.1]:22": "10.0.0.1:22",
		"example.org:443": "example.org:443", "example.org.:443": "example.org.:443", "localhost:1": "localhost:1",
	} {
		host, port, err := ParseDial(text, 22)
		if got := Join(host, port); err != nil || got != want {
			t.Errorf("%s became %s, %v", text, got, err)
		}
	}
}

func TestParseDialInvalid(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.1":       "write it as 10.0.0.1:22",
		"fd77::1":        `write it as "[address]:22"`,
		"fd77::1:22222":  "brackets",
		"[fd77::1]":      `write it as "[fd77::1]:22"`,
		"10.0.0.1:0":     "is not a port",
		"10.0.0.1:65536": "is not a port",
		"0.0.0.0:22":     "cannot be dialled; write 127.0.0.1:22",
		"224.0.0.1:22":   "cannot be dialled",
		"10.0.0.256:22":  "neither an address nor a host name",
		"a b:22":         "neither an address nor a host name",
		":22":            "neither an address nor a host name",
	} {
		if host, port, err := ParseDial(text, 22); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %s, %d, %v; want %q", text, host, port, err, want)
		}
	}
}

func FuzzParseDial(f *testing.F) {
	f.Add("10.0.0.1:22")
	f.Add("[fd77::1]:22")
	f.Add("example.org:443")
	f.Fuzz(func(t *testing.T, text string) {
		host, port, err := ParseDial(text, 22)
		if err != nil {
			return
		}
		again, samePort, err := ParseDial(Join(host, port), 22)
		if err != nil || again != host || samePort != port {
			t.Errorf("%q became %s, and that %s, %v", text, Join(host, port), Join(again, samePort), err)
		}
	})
}

func FuzzParsePrefix(f *testing.F) {
	f.Add("10.0.0.0/24")
	f.Add("fd77::/64")
	f.Add("::ffff:10.0.0.0/120")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePrefix(text)
		if err != nil {
			return
		}
		if again, err := netip.ParsePrefix(p.String()); err != nil || again != p || p.Masked() != p || p.Addr().Is4In6() {
			t.Errorf("%q became %v, %v", text, p, err)
		}
	})
}

func TestParseSourceHostBits(t *testing.T) {
	for text, says := range map[string]string{
		"203.0.113.2/16": "write 203.0.0.0/16 for the network, or 203.0.113.2 for the address",
		"fd77::1/64":     "write fd77::/64",
	} {
		if got, err := ParseSource(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	if got, err := ParseSource("203.0.0.0/16"); err != nil || got.String() != "203.0.0.0/16" {
		t.Errorf("%v, %v", got, err)
	}
}
