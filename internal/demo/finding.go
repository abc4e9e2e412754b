package demo

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// findings are the states that a scan has found.
type findings map[probe]state

// summary lists the states of an address found by a technique, with the number
// of ports: "1 open, 1024 filtered".
func (f findings) summary(t technique, a netip.Addr) string {
	n := make(map[state]int)
	for p, s := range f {
		if p.technique == t && p.addr == a {
			n[s]++
		}
	}
	var parts []string
	for _, s := range states() {
		switch {
		case n[s] == 0:
		case t == echoScan:
			parts = append(parts, string(s))
		default:
			parts = append(parts, fmt.Sprintf("%d %s", n[s], s))
		}
	}
	return strings.Join(parts, ", ")
}

// rows returns the findings as a table: a row for each technique, a column for
// each address.
func (f findings) rows(addrs []netip.Addr) [][]string {
	head := []string{"ports of"}
	for _, a := range addrs {
		head = append(head, a.String())
	}
	rows := [][]string{head}
	for t := range techniqueCount {
		row := []string{t.String()}
		for _, a := range addrs {
			row = append(row, f.summary(t, a))
		}
		rows = append(rows, row)
	}
	return rows
}

// shownAnswers is how many answered probes are named.
const shownAnswers = 4

// answers names the probes that were answered; it is empty if none was.
func (f findings) answers() string {
	var named []string
	for p, s := range f {
		if s == p.technique.conclude(silence) {
			continue
		}
		at := p.addr.String()
		if p.technique != echoScan {
			at = netip.AddrPortFrom(p.addr, p.port).String()
		}
		named = append(named, fmt.Sprintf("%s says %s of %s", p.technique, s, at))
	}
	slices.Sort(named)
	if more := len(named) - shownAnswers; more > 0 {
		named = append(named[:shownAnswers], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(named, ", ")
}
