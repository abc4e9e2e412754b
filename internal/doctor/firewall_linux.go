package doctor

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Numbers of linux/netfilter/nf_tables.h: attributes of chains, rules and expressions.
const (
	chainTable, chainName, chainHook, chainPolicy   = 1, 3, 4, 5
	hookNumber                                      = 1
	ruleTable, ruleChain, ruleExpressions           = 1, 2, 4
	expressionName, expressionData                  = 1, 2
	immediateData                                   = 2
	dataValue, dataVerdict                          = 1, 2
	verdictCode, verdictChain                       = 1, 2
	compareOperation, compareData                   = 2, 3
	compareEqual                                    = 0
	metaKey                                         = 2
	metaIn, metaOut                                 = 6, 7
	payloadBase, payloadOffset                      = 2, 3
	networkHeader, transportHeader                  = 1, 2
	source4, dest4, source6, dest6, destinationPort = 12, 16, 8, 24, 2
	targetName                                      = 1
	natKind, natDestination                         = 1, 1
	verdictAccept, verdictJump, verdictGoto         = 1, -3, -4
)

// attributeType are the bits of an attribute's number; the others say how it is written.
const attributeType = 0x3fff

// hooks are the names of those that packets for the gateway come by, by number.
var hooks = map[uint32]string{0: "prerouting", 2: "forward", 4: "postrouting"}

// firewallFamilies are the names of protocol families, as nft has them.
var firewallFamilies = map[byte]string{1: "inet", unix.AF_INET: "ip", unix.AF_INET6: "ip6"}

// firewall reads the chains and rules of nftables, which those of iptables are, too, but for the older one's.
func firewall() (*Firewall, error) {
	w := &Firewall{}
	type id struct{ family, table, chain string }
	at := make(map[id]int) // in w.Chains: hosts of containers have thousands
	err := dump(unix.NFT_MSG_GETCHAIN, func(family string, all map[uint16][]byte) {
		c := Chain{Family: family, Table: word(all[chainTable]), Name: word(all[chainName])}
		if hook, ok := all[chainHook]; ok {
			c.Hook = hooks[number(attributes(hook)[hookNumber])]
			c.Drops = all[chainPolicy] != nil && number(all[chainPolicy]) == 0
		}
		at[id{c.Family, c.Table, c.Name}] = len(w.Chains)
		w.Chains = append(w.Chains, c)
	})
	if err != nil {
		return nil, err
	}
	err = dump(unix.NFT_MSG_GETRULE, func(family string, all map[uint16][]byte) {
		if i, ok := at[id{family, word(all[ruleTable]), word(all[ruleChain])}]; ok { // or made a moment ago
			w.Chains[i].Rules = append(w.Chains[i].Rules, ruleOf(all[ruleExpressions]))
		}
	})
	if err != nil {
		return nil, err
	}
	for _, file := range []string{"/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"} {
		b, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		w.Legacy = append(w.Legacy, strings.Fields(string(b))...)
	}
	return w, nil
}

// dump asks for all chains or rules. A kernel without nftables has none.
func dump(question uint16, each func(family string, attributes map[uint16][]byte)) error {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|int(question), unix.NLM_F_DUMP)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0})
	all, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("ask for the rules of the firewall: %w", err)
	}
	for _, message := range all {
		if len(message) < nl.SizeofNfgenmsg {
			continue
		}
		if family, ok := firewallFamilies[message[0]]; ok {
			each(family, attributes(message[nl.SizeofNfgenmsg:]))
		}
	}
	return nil
}

// ruleOf makes of a rule's expressions what matters.
func ruleOf(expressions []byte) (r Rule) {
	list, err := nl.ParseRouteAttr(expressions)
	if err != nil {
		r.Narrow = true
		return r
	}
	loaded := "" // what the next comparison is about
	for _, element := range list {
		expression := attributes(element.Value)
		data := attributes(expression[expressionData])
		switch name := word(expression[expressionName]); name {
		case "meta":
			loaded = map[uint32]string{metaIn: "in", metaOut: "out"}[number(data[metaKey])]
		case "payload":
			loaded = fieldOf(number(data[payloadBase]), number(data[payloadOffset]))
		case "bitwise": // part of an address
			if loaded == "dest" {
				loaded = ""
			}
		case "cmp":
			r.compare(loaded, number(data[compareOperation]) != compareEqual, attributes(data[compareData])[dataValue])
			loaded = ""
		case "immediate":
			if verdict := attributes(attributes(data[immediateData])[dataVerdict]); len(verdict) > 0 {
				r.decide(int32(number(verdict[verdictCode])), word(verdict[verdictChain]))
			}
		case "counter", "log", "comment":
		case "reject":
			r.Verdict = name
		case "nat":
			r.Verdict = "masquerade"
			if number(data[natKind]) == natDestination {
				r.Verdict = "dnat"
			}
		case "redir", "tproxy":
			r.Verdict = "dnat"
		case "masq":
			r.Verdict = "masquerade"
		case "target": // of iptables
			r.Verdict = map[string]string{
				"REJECT": "reject", "DNAT": "dnat", "REDIRECT": "dnat", "TPROXY": "dnat", "MASQUERADE": "masquerade", "SNAT": "masquerade",
			}[word(data[targetName])]
		default:
			r.Narrow = true
		}
	}
	return r
}

// fieldOf names what is read of a packet.
func fieldOf(base, offset uint32) string {
	switch {
	case base == transportHeader && offset == destinationPort:
		return "port"
	case base == networkHeader && (offset == dest4 || offset == dest6):
		return "dest"
	case base == networkHeader && (offset == source4 || offset == source6):
		return "source"
	default:
		return ""
	}
}

// compare notes what is matched.
func (r *Rule) compare(what string, not bool, value []byte) {
	switch {
	case what == "in":
		r.In, r.Not = word(value), r.Not || not
	case what == "out":
		r.Out, r.Not = word(value), r.Not || not
	case what == "source":
		r.Source = true
	case what == "port" && !not && len(value) == 2:
		r.Port = binary.BigEndian.Uint16(value)
	case what == "dest" && !not:
		if a, ok := netip.AddrFromSlice(value); ok {
			r.Dest = a
			return
		}
		r.Narrow = true
	default:
		r.Narrow = true
	}
}

func (r *Rule) decide(code int32, chain string) {
	switch code {
	case verdictAccept:
		r.Verdict = "accept"
	case 0:
		r.Verdict = "drop"
	case verdictJump:
		r.Verdict, r.Chain = "jump", chain
	case verdictGoto:
		r.Verdict, r.Chain = "goto", chain
	}
}

// attributes are those of a message, by their numbers; nothing where they are broken.
func attributes(b []byte) map[uint16][]byte {
	list, err := nl.ParseRouteAttr(b)
	if err != nil {
		return nil
	}
	all := make(map[uint16][]byte, len(list))
	for _, a := range list {
		all[a.Attr.Type&attributeType] = a.Value
	}
	return all
}

// number reads one of netfilter's, 0 where there is none.
func number(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

// word reads a name that ends with a zero.
func word(b []byte) string {
	name, _, _ := bytes.Cut(b, []byte{0})
	return string(name)
}
