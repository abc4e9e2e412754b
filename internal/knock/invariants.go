package knock

import (
	"errors"
	"fmt"
	"maps"

	"github.com/knockgw/knockgw/packet"
)

// CheckQueues returns an error if an entry of a queue is lost, and how many
// knocks wait. It and the checks below are for the tests of gates; nothing else
// may run.
func (p *Pipeline) CheckQueues() (waiting int, err error) {
	for _, q := range []*queue{&p.queues.fast, &p.queues.slow} {
		ready, free := len(q.ready), len(q.free)
		if ready+free != cap(q.ready) {
			return 0, fmt.Errorf("%d knocks wait, %d entries are free of %d", ready, free, cap(q.ready))
		}
		waiting += ready
	}
	return waiting, nil
}

// CheckNonces returns an error if the nonces counted are not those of the slow
// queue.
func (p *Pipeline) CheckNonces() error {
	counted := uint32(0)
	for _, n := range p.queues.pendingNonces {
		counted += n
	}
	if n := len(p.queues.slow.ready); int(counted) != n {
		return fmt.Errorf("%d nonces counted, %d knocks in the slow queue", counted, n)
	}
	return nil
}

// CheckSequences returns an error if the sequences in progress contradict their
// counts or limits.
func (w *Worker) CheckSequences() error {
	q := &w.p.sequences
	if len(q.byKey) > MaxSYNSequences || w.p.Known.Len() > MaxKnownSources || len(w.claims) > MaxClaims {
		return fmt.Errorf("%d SYN sequences, %d known sources, %d claims", len(q.byKey), w.p.Known.Len(), len(w.claims))
	}
	free := map[*synSequence]bool{}
	for _, s := range q.free {
		if free[s] {
			return errors.New("a SYN sequence is free twice")
		}
		free[s] = true
	}

	for key, s := range q.byKey {
		sources := map[packet.Addr]bool{}
		for _, p := range s.sources[:s.n] {
			if sources[p.addr] || p.next < 1 || int(p.next) >= w.p.policy().Sequence().Length {
				return fmt.Errorf("%+v: source %+v", key, p)
			}
			sources[p.addr] = true
		}
		if free[s] || s.n == 0 {
			return fmt.Errorf("%+v is free, or has no source", key)
		}
	}
	return w.sequences.check()
}

// check returns an error if the sequences contradict their counts or limits.
func (u *udpSequences) check() error {
	inFlight, bySource := 0, map[packet.Addr]int{}
	for key, s := range u.byKey {
		if !s.done {
			inFlight++
			bySource[key.src]++
		}
	}
	if inFlight != u.inFlight || !maps.Equal(bySource, u.bySource) || inFlight > MaxUDPSequences || len(u.byKey) > 2*MaxUDPSequences {
		return fmt.Errorf("%d of %d UDP sequences in flight, %d counted; %d sources, %d counted",
			inFlight, len(u.byKey), u.inFlight, len(bySource), len(u.bySource))
	}
	for a, n := range bySource {
		if n > UDPSequencesPerSource {
			return fmt.Errorf("%v has %d sequences in flight", a.Netip(), n)
		}
	}
	return nil
}

// CheckEmpty returns an error if anything has not been forgotten.
func (w *Worker) CheckEmpty() error {
	u := &w.sequences
	if n := len(w.claims) + len(u.byKey) + len(u.bySource) + u.inFlight + w.p.SYNSequences() + w.p.Known.Len(); n != 0 {
		return fmt.Errorf("left: %d claims, %d UDP sequences, %d SYN sequences, %d known sources",
			len(w.claims), len(u.byKey), w.p.SYNSequences(), w.p.Known.Len())
	}
	return w.p.CheckNonces()
}
