package capture

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/knockgw/knockgw/internal/address"
	"github.com/knockgw/knockgw/packet"
)

// ErrFilter is wrapped by the errors of ParseFilter.
var ErrFilter = errors.New("bad filter")

// maxTerms bounds a filter: each packet is compared with every term.
const maxTerms = 32

// A Filter selects packets: those that match all its terms. The zero Filter
// selects all.
type Filter struct {
	terms []term
	text  string
}

// A term is one condition.
type term struct {
	negate bool
	match  func(*Event) bool
}

// ParseFilter parses a filter, terms joined by `and`:
//
//	host 10.1.2.2           from or to an address
//	net fd01:2::/64         from or to a network
//	src 10.1.2.2, dst ...   from, or to, an address or network; also src host, src net
//	port 22                 TCP or UDP, either end
//	src port 22, dst ...    that end
//	proto tcp               tcp, udp, icmp or icmp6; also the word alone
//	in, out                 packets from the device, or to be sent by it
//	verdict drop            pass, hold or drop
//	reason no-grant         as named in metrics
//
// `not` before a term negates it. An empty text selects all packets. reasons
// are the known reasons; without any, every word is accepted.
func ParseFilter(text string, reasons []string) (Filter, error) {
	f := Filter{text: strings.TrimSpace(text)}
	words := strings.Fields(text)
	for len(words) > 0 {
		if len(f.terms) == maxTerms {
			return Filter{}, fmt.Errorf("%w: more than %d terms", ErrFilter, maxTerms)
		}

		t, rest, err := parseTerm(words, reasons)
		if err != nil {
			return Filter{}, err
		}
		f.terms = append(f.terms, t)
		if len(rest) == 0 {
			break
		}
		if rest[0] == "or" || rest[0] == "||" {
			return Filter{}, fmt.Errorf("%w: or is not supported; use a wider filter, such as one network for two hosts, or run it once for each", ErrFilter)
		}
		if rest[0] != "and" || len(rest) == 1 {
			return Filter{}, fmt.Errorf("%w: %q after a term; join terms with and", ErrFilter, rest[0])
		}
		words = rest[1:]
	}
	return f, nil
}

// String returns the text that was parsed.
func (f Filter) String() string { return f.text }

// Match reports whether an event matches all terms.
func (f Filter) Match(e *Event) bool {
	for i := range f.terms {
		if f.terms[i].match(e) == f.terms[i].negate {
			return false
		}
	}
	return true
}

// parseTerm parses one term and returns the words after it.
func parseTerm(words, reasons []string) (t term, rest []string, err error) {
	if words[0] == "not" {
		t.negate = true
		words = words[1:]
	}
	if len(words) == 0 {
		return t, nil, fmt.Errorf("%w: nothing after not", ErrFilter)
	}
	key, words := words[0], words[1:]
	switch key {
	case "in":
		t.match = func(e *Event) bool { return !e.Out }
		return t, words, nil
	case "out":
		t.match = func(e *Event) bool { return e.Out }
		return t, words, nil
	case "tcp", "udp", "icmp", "icmp6": // as in tcpdump's language
		t.match, err = parseValue("proto", key, valueScope{})
		return t, words, err
	}

	of, name := valueScope{src: true, dst: true, reasons: reasons}, key
	if key == "src" || key == "dst" { // such as src port 22
		of.src, of.dst, key = key == "src", key == "dst", "net"
		if len(words) > 0 && (words[0] == "host" || words[0] == "net" || words[0] == "port") {
			key, words = words[0], words[1:]
			name += " " + key
		}
	}

	value := ""
	if len(words) > 0 {
		value, words = words[0], words[1:]
	}
	if t.match, err = parseValue(key, value, of); err != nil {
		return t, nil, fmt.Errorf("%w: %s: %w", ErrFilter, name, err)
	}
	return t, words, nil
}

// A valueScope is what the value of a term is compared with.
type valueScope struct {
	src, dst bool     // that end of a packet
	reasons  []string // the known reasons
}

// parseValue returns the condition of a term with a value.
func parseValue(key, value string, of valueScope) (func(*Event) bool, error) {
	if value == "" {
		return nil, errors.New("needs a value; terms are host, net, src, dst, port, proto, in, out, verdict and reason")
	}
	switch key {
	case "host", "net":
		p, err := address.ParseSource(value)
		return func(e *Event) bool {
			return of.src && p.Contains(e.tuple().Src.Netip()) || of.dst && p.Contains(e.tuple().Dst.Netip())
		}, err
	case "port":
		n, err := strconv.ParseUint(value, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("%q is not a port; write 1 to 65535", value)
		}
		return func(e *Event) bool {
			return e.Packet.Proto != 0 && (of.src && e.tuple().SrcPort == uint16(n) || of.dst && e.tuple().DstPort == uint16(n))
		}, nil
	case "proto":
		n, ok := map[string]packet.Protocol{"tcp": packet.TCP, "udp": packet.UDP, "icmp": packet.ICMP, "icmp6": packet.ICMPv6}[value]
		if !ok {
			return nil, fmt.Errorf("%q is not known; write tcp, udp, icmp or icmp6", value)
		}
		return func(e *Event) bool { return e.Packet.Proto == n }, nil
	case "verdict":
		if value != "pass" && value != "hold" && value != "drop" {
			return nil, fmt.Errorf("%q is not known; write pass, hold or drop", value)
		}
		return func(e *Event) bool { return e.Verdict == value }, nil
	case "reason":
		if len(of.reasons) > 0 && !slices.Contains(of.reasons, value) {
			return nil, fmt.Errorf("%q is not known; choose one of %s", value, strings.Join(of.reasons, ", "))
		}
		return func(e *Event) bool { return e.Reason == value }, nil
	default:
		return nil, errors.New("unknown term; terms are host, net, src, dst, port, proto, in, out, verdict and reason")
	}
}
