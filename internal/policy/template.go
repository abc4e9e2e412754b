package policy

import (
	"fmt"

	"github.com/knockgw/knockgw/protocol"
)

const (
	// MaxPrecomputed bounds the knocks that are computed ahead: 32 bytes each,
	// in each of two tables, half a GiB in all, and for a quarter of them an
	// HMAC in every slot.
	MaxPrecomputed = 1 << 23

	// SlotsBefore is how many time slots are computed before the current one.
	SlotsBefore = 1
	// SlotsAfter is how many time slots are computed after the current one.
	SlotsAfter = 2
	// SlotsKept is how many time slots are computed in all.
	SlotsKept = SlotsBefore + 1 + SlotsAfter
)

// A Template is what knocks are computed from ahead of time: a client's key for
// a port, with the methods by which it may knock.
type Template struct {
	Key     *ClientKey
	Port    uint16 // in MACs
	Methods MethodSet
}

// perSlot returns how many knocks the template stands for in one slot.
func (t *Template) perSlot(p *Policy) int {
	n := 0
	if t.Methods&MethodSYN != 0 {
		n++
	}
	if t.Methods&MethodSYNSeq != 0 {
		n += p.sequence.Length
		if p.sequence.Legacy {
			n += p.sequence.Length
		}
	}
	if t.Methods&MethodUDPv2 != 0 {
		n++
	}
	return n
}

// addTemplates lists which knocks can be computed ahead: for each key and port
// once, however many services have that port.
func (p *Policy) addTemplates() error {
	type setAndPort struct {
		set  *clientSet
		port uint16
	}
	methods := make(map[setAndPort]MethodSet)
	var order []setAndPort
	numSets := make(map[uint16]int) // by port

	for _, s := range p.services {
		m := s.Methods & (MethodsSYN | MethodUDPv2)
		if m == 0 {
			continue
		}
		for _, set := range s.sets {
			at := setAndPort{set, s.MACPort}
			if methods[at] == 0 {
				order = append(order, at)
				numSets[s.MACPort]++
			}
			methods[at] |= m
		}
	}

	b := templateBuilder{policy: p, index: make(map[templateKey]int)}
	for _, at := range order {
		for _, k := range at.set.keys {
			b.add(k, at.port, methods[at], numSets[at.port] > 1)
		}
		if p.numPrecomputed = b.perSlot * SlotsKept; p.numPrecomputed > MaxPrecomputed {
			return fmt.Errorf("policy: the clients of these services could send more than %d different SYN and udp-v2 knocks at a time, "+
				"which are computed ahead and held in memory (%d for each secret and port with every method): "+
				"name fewer methods in services[].knock, have services share a port, or name in clients[].services which of them a client may use",
				MaxPrecomputed, (1+2*p.sequence.Length+1)*SlotsKept)
		}
	}
	return nil
}

// templateKey identifies a template.
type templateKey struct {
	id   *protocol.Client
	port uint16
}

// templateBuilder fills a policy's templates.
type templateBuilder struct {
	policy  *Policy
	index   map[templateKey]int // of the templates of ports with several sets of clients
	perSlot int                 // knocks that all templates stand for in a slot
}

// add adds methods to the template of a key and port. shared says that another
// set of clients of the port may have the same key.
func (b *templateBuilder) add(k *ClientKey, port uint16, methods MethodSet, shared bool) {
	p := b.policy
	i := len(p.templates)
	if shared {
		at, ok := b.index[templateKey{k.Identity, port}]
		if ok {
			i = at
		} else {
			b.index[templateKey{k.Identity, port}] = i
		}
	}
	if i == len(p.templates) {
		p.templates = append(p.templates, Template{Key: k, Port: port})
	}

	t := &p.templates[i]
	b.perSlot -= t.perSlot(p)
	t.Methods |= methods
	b.perSlot += t.perSlot(p)
}
