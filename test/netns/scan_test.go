//go:build linux

package netns_test

import (
	"context"
	"encoding/xml"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	// scanPorts has the services' ports, the knock port, and some that mean
	// nothing.
	scanPorts = "22,23,53,80,443,8443,8444,9000,62201"
	// scanProtocols has what a kernel likes to answer: ICMP in both families,
	// IGMP, TCP, UDP, tunnels, SCTP.
	scanProtocols = "1,2,4,6,17,41,47,50,51,58,89,103,132,255"
	scanTime      = 90 * time.Second
)

// A scan is one run of nmap.
type scan struct {
	flags []string
	v6    bool
	ports string // "" means scanPorts, or scanProtocols
}

// scans4 has one run for each type of scan that the specification names.
func scans4() []scan {
	return []scan{
		{flags: []string{"-sS"}}, {flags: []string{"-sT"}}, {flags: []string{"-sA"}}, {flags: []string{"-sW"}},
		{flags: []string{"-sM"}}, {flags: []string{"-sF"}}, {flags: []string{"-sX"}}, {flags: []string{"-sN"}},
		{flags: []string{"-sU"}}, {flags: []string{"-sO"}},
		{flags: []string{"-sS", "-f"}}, {flags: []string{"-sS", "--badsum"}},
	}
}

// scans6 is scans4 without the one that nmap cannot do over IPv6, fragments;
// raw packets stand in for it.
func scans6() []scan {
	var scans []scan
	for _, s := range scans4() {
		if s.name() != "-sS -f" {
			scans = append(scans, scan{flags: s.flags, v6: true})
		}
	}
	return scans
}

func (s scan) name() string { return strings.Join(s.flags, " ") }

// report is the part of nmap's XML that says what it believes.
type report struct {
	Hosts []struct {
		Ports []struct {
			State struct {
				State string `xml:"state,attr"`
			} `xml:"state"`
		} `xml:"ports>port"`
		Extra []struct {
			State string `xml:"state,attr"`
		} `xml:"ports>extraports"`
	} `xml:"host"`
}

// run scans one address and returns the states that nmap reported of any port
// or protocol.
func (s scan) run(t *testing.T, from *lab.Host, target netip.Addr) map[string]bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), scanTime)
	defer cancel()
	args := append([]string{}, s.flags...)
	ports := scanPorts
	if s.flags[0] == "-sO" {
		ports = scanProtocols
	}
	if s.ports != "" {
		ports = s.ports
	}
	args = append(args, "-n", "-Pn", "-p", ports, "--max-retries", "1", "--max-rtt-timeout", "300ms",
		"--initial-rtt-timeout", "200ms", "-oX", "-")
	if s.v6 {
		args = append(args, "-6")
	}
	out, err := from.Run(ctx, "nmap", append(args, target.String())...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var r report
	if err := xml.Unmarshal([]byte(out[max(0, strings.Index(out, "<?xml")):]), &r); err != nil {
		t.Fatalf("read nmap's report: %v\n%s", err, out)
	}
	states := make(map[string]bool)
	for _, h := range r.Hosts {
		for _, p := range h.Ports {
			states[p.State.State] = true
		}
		for _, e := range h.Extra {
			states[e.State] = true
		}
	}
	if len(states) == 0 {
		t.Errorf("nmap %s %v reported nothing:\n%s", s.name(), target, out)
	}
	return states
}

// assertBlind fails the test if nmap learns anything at all.
func (s scan) assertBlind(t *testing.T, from *lab.Host, target netip.Addr) {
	t.Helper()
	for state := range s.run(t, from, target) {
		if state != "filtered" && state != "open|filtered" {
			t.Errorf("nmap %s %v found something %s", s.name(), target, state)
		}
	}
}
