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

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// hookNames are the names of the hooks that packets for the gateway pass.
var hookNames = map[nftables.ChainHook]string{
	*nftables.ChainHookPrerouting: "prerouting", *nftables.ChainHookForward: "forward", *nftables.ChainHookPostrouting: "postrouting",
}

// familyNames are the names of table families in the syntax of nft.
var familyNames = map[nftables.TableFamily]string{
	nftables.TableFamilyINet: "inet", nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6",
}

// chainID identifies a chain.
type chainID struct{ family, table, chain string }

// readFirewall reads the chains and rules of nftables, which include those of
// iptables except for iptables-legacy.
func readFirewall() (*Firewall, error) {
	chains, err := (&nftables.Conn{}).ListChains()
	if err != nil {
		return legacyTables(&Firewall{}, firewallError(err))
	}
	w := &Firewall{}
	index := make(map[chainID]int) // into w.Chains: hosts of containers have thousands
	for _, c := range chains {
		family, ok := familyNames[c.Table.Family]
		if !ok {
			continue
		}
		chain := Chain{Family: family, Table: c.Table.Name, Name: c.Name}
		if c.Hooknum != nil {
			chain.Hook = hookNames[*c.Hooknum]
			chain.Drops = c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop
		}
		index[chainID{family, chain.Table, chain.Name}] = len(w.Chains)
		w.Chains = append(w.Chains, chain)
	}

	err = eachRule(func(id chainID, r Rule) {
		if i, ok := index[id]; ok { // unless the chain was added since
			w.Chains[i].Rules = append(w.Chains[i].Rules, r)
		}
	})
	return legacyTables(w, firewallError(err))
}

// firewallError ignores the errors of a kernel without nftables, which has no
// rules.
func firewallError(err error) error {
	if err == nil || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return fmt.Errorf("list the rules of the firewall: %w", err)
}

// legacyTables adds the tables of iptables-legacy.
func legacyTables(w *Firewall, err error) (*Firewall, error) {
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

// eachRule calls f with all rules. It does not use nftables.Conn.GetRules,
// which takes a request per chain and omits the expressions that it does not
// know: a rule whose match is omitted would seem to match every packet.
func eachRule(f func(chainID, Rule)) error {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return err
	}
	const headerSize = 4 // struct nfgenmsg: family, version, resource
	rules, err := conn.Execute(netlink.Message{
		Header: netlink.Header{
			Type:  netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETRULE),
			Flags: netlink.Request | netlink.Dump,
		},
		Data: make([]byte, headerSize), // of all families
	})
	if err = errors.Join(err, conn.Close()); err != nil {
		return err
	}

	for _, m := range rules {
		if len(m.Data) < headerSize {
			continue
		}
		family := m.Data[0]
		name, ok := familyNames[nftables.TableFamily(family)]
		if !ok {
			continue
		}
		id, r, err := parseRule(family, m.Data[headerSize:])
		if err != nil {
			return err
		}
		id.family = name
		f(id, r)
	}
	return nil
}

func parseRule(family byte, b []byte) (id chainID, r Rule, err error) {
	attributes, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return id, r, err
	}
	for attributes.Next() {
		switch attributes.Type() {
		case unix.NFTA_RULE_TABLE:
			id.table = attributes.String()
		case unix.NFTA_RULE_CHAIN:
			id.chain = attributes.String()
		case unix.NFTA_RULE_EXPRESSIONS:
			attributes.Nested(func(list *netlink.AttributeDecoder) error {
				p := ruleParser{family: family, rule: &r}
				for list.Next() {
					list.Nested(p.add)
				}
				return nil
			})
		}
	}
	return id, r, attributes.Err()
}

// A ruleParser derives a Rule from its expressions, which run in order on
// registers.
type ruleParser struct {
	family byte
	rule   *Rule
	loaded string // the field that the next comparison is about
}

// add adds an expression. What cannot be parsed is a match of an unknown kind.
func (p *ruleParser) add(attributes *netlink.AttributeDecoder) error {
	name, data := "", []byte(nil)
	for attributes.Next() {
		switch attributes.Type() {
		case unix.NFTA_EXPR_NAME:
			name = attributes.String()
		case unix.NFTA_EXPR_DATA:
			data = attributes.Bytes()
		}
	}
	if attributes.Err() != nil || p.parse(name, data) != nil {
		p.rule.Narrowed = true
	}
	return nil
}

func (p *ruleParser) parse(name string, data []byte) error {
	r := p.rule
	switch name {
	case "meta":
		var e expr.Meta
		err := expr.Unmarshal(p.family, data, &e)
		p.loaded = map[expr.MetaKey]string{expr.MetaKeyIIFNAME: "in", expr.MetaKeyOIFNAME: "out"}[e.Key]
		return err
	case "payload":
		var e expr.Payload
		err := expr.Unmarshal(p.family, data, &e)
		p.loaded = payloadField(&e)
		return err
	case "bitwise": // a part of the address
		if p.loaded == "dest" {
			p.loaded = ""
		}
	case "cmp":
		var e expr.Cmp
		err := expr.Unmarshal(p.family, data, &e)
		r.addMatch(p.loaded, e.Op != expr.CmpOpEq, e.Data)
		p.loaded = ""
		return err
	case "immediate":
		return p.parseVerdict(data)
	case "counter", "log", "comment":
	case "reject":
		r.Verdict = name
	case "nat":
		var e expr.NAT
		err := expr.Unmarshal(p.family, data, &e)
		r.Verdict = "masquerade"
		if e.Type == expr.NATTypeDestNAT {
			r.Verdict = "dnat"
		}
		return err
	case "redir", "tproxy":
		r.Verdict = "dnat"
	case "masq":
		r.Verdict = "masquerade"
	case "target": // of iptables
		var e expr.Target
		_ = expr.Unmarshal(p.family, data, &e) // its parameters may be unknown
		r.Verdict = map[string]string{
			"REJECT": "reject", "DNAT": "dnat", "REDIRECT": "dnat", "TPROXY": "dnat", "MASQUERADE": "masquerade", "SNAT": "masquerade",
		}[e.Name]
	default:
		r.Narrowed = true
	}
	return nil
}

// parseVerdict parses an immediate expression, which loads data or a verdict.
func (p *ruleParser) parseVerdict(data []byte) error {
	var load expr.Immediate
	if err := expr.Unmarshal(p.family, data, &load); err != nil || load.Register != unix.NFT_REG_VERDICT || len(load.Data) > 0 {
		return err
	}
	var v expr.Verdict
	if err := expr.Unmarshal(p.family, data, &v); err != nil {
		return err
	}
	r := p.rule
	switch v.Kind {
	case expr.VerdictAccept:
		r.Verdict = "accept"
	case expr.VerdictDrop:
		r.Verdict = "drop"
	case expr.VerdictJump:
		r.Verdict, r.Chain = "jump", v.Chain
	case expr.VerdictGoto:
		r.Verdict, r.Chain = "goto", v.Chain
	default:
	}
	return nil
}

// Offsets of fields, in bytes: from the network header, and from the transport
// header.
const (
	source4, dest4  = 12, 16
	source6, dest6  = 8, 24
	destinationPort = 2
)

// payloadField names the field of the packet that e loads.
func payloadField(e *expr.Payload) string {
	switch {
	case e.Base == expr.PayloadBaseTransportHeader && e.Offset == destinationPort:
		return "port"
	case e.Base == expr.PayloadBaseNetworkHeader && (e.Offset == dest4 || e.Offset == dest6):
		return "dest"
	case e.Base == expr.PayloadBaseNetworkHeader && (e.Offset == source4 || e.Offset == source6):
		return "source"
	default:
		return ""
	}
}

// addMatch adds a comparison of a field with a value.
func (r *Rule) addMatch(field string, negated bool, value []byte) {
	switch {
	case field == "in":
		r.In, r.Negated = cString(value), r.Negated || negated
	case field == "out":
		r.Out, r.Negated = cString(value), r.Negated || negated
	case field == "source":
		r.Source = true
	case field == "port" && !negated && len(value) == 2:
		r.Port = binary.BigEndian.Uint16(value)
	case field == "dest" && !negated:
		if a, ok := netip.AddrFromSlice(value); ok {
			r.Dest = a
			return
		}
		r.Narrowed = true
	default:
		r.Narrowed = true
	}
}

// cString returns a string that ends with a zero byte.
func cString(b []byte) string {
	name, _, _ := bytes.Cut(b, []byte{0})
	return string(name)
}
