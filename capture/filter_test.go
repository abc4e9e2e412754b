package capture

import (
	"errors"
	"strings"
	"testing"
)

func TestFilterMatch(t *testing.T) {
	v4 := &Event{Packet: syn(t, "10.1.2.2", "10.77.0.1"), Verdict: "drop", Reason: "no-grant"}
	v6 := &Event{Packet: syn(t, "fd01:2::2", "fd77::1"), Verdict: "pass", Reason: "grant", Out: true}
	for _, c := range []struct {
		filter string
		v4, v6 bool
	}{
		{"", true, true},
		{"host 10.1.2.2", true, false},
		{"host 10.77.0.1", true, false},
		{"host ::ffff:10.77.0.1", true, false},
		{"src 10.77.0.1", false, false},
		{"dst 10.77.0.0/24", true, false},
		{"net fd01:2::/64", false, true},
		{"port 22", true, true},
		{"port 1234", true, true},
		{"port 80", false, false},
		{"src port 1234", true, true},
		{"dst port 1234", false, false},
		{"dst port 22 and src host 10.1.2.2", true, false},
		{"not src port 22 and src net fd01::/16", false, true},
		{"dst host 10.1.2.2", false, false},
		{"proto tcp", true, true},
		{"proto icmp6", false, false},
		{"in", true, false},
		{"out", false, true},
		{"not out", true, false},
		{"verdict drop", true, false},
		{"reason grant", false, true},
		{"not verdict pass and port 22", true, false},
		{"proto tcp and host 10.1.2.2 and verdict drop and in", true, false},
		{"proto tcp and host 10.1.2.2 and verdict pass", false, false},
		{"tcp and port 22 and host 10.1.2.2", true, false},
		{"not tcp", false, false},
		{"udp", false, false},
	} {
		f, err := ParseFilter(c.filter, nil)
		if err != nil {
			t.Errorf("%q: %v", c.filter, err)
			continue
		}
		if f.Match(v4) != c.v4 || f.Match(v6) != c.v6 {
			t.Errorf("%q takes %v and %v, want %v and %v", c.filter, f.Match(v4), f.Match(v6), c.v4, c.v6)
		}
		if f.String() != c.filter {
			t.Errorf("%q is written %q", c.filter, f)
		}
	}
}

func TestParseFilterErrors(t *testing.T) {
	for filter, says := range map[string]string{
		"host":                           "needs a value",
		"host nowhere":                   "neither an address nor a network",
		"port ssh":                       "not a port",
		"port 65536":                     "not a port",
		"proto sctp":                     "tcp, udp, icmp",
		"verdict maybe":                  "pass, hold or drop",
		"tcp port 22":                    "join terms with and",
		"sctp":                           "needs a value",
		"colour red":                     "unknown term",
		"in out":                         "join terms with and",
		"in and":                         "join terms with and",
		"not":                            "nothing after not",
		strings.Repeat("in and ", 40):    "more than 32",
		"host 10.1.1.1 or host 10.1.1.2": "or is not supported; use a wider filter",
		"reason nosuch":                  "not known; choose one of grant, no-grant",
		"src port ssh":                   "not a port",
		"src":                            "needs a value",
		"dst port":                       "needs a value",
		"src proto tcp":                  "neither an address nor a network",
	} {
		if _, err := ParseFilter(filter, []string{"grant", "no-grant"}); !errors.Is(err, ErrFilter) || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", filter, err, says)
		}
	}
}
