package admission

import (
	"sync"
	"time"

	"github.com/knockgw/knockgw/packet"
)

// fragments reassembles the fragments of admitted flows before they are judged,
// in bounded memory.
type fragments struct {
	mu sync.Mutex // one packet at a time; fragments of unknown sources never get here
	r  *packet.Reassembler
}

func (f *fragments) init(mono func() time.Duration, stats *counters) {
	f.r = packet.NewReassembler(packet.ReassemblerOptions{
		Clock:  mono,
		OnDrop: func(f packet.DropReason, n int) { stats.faults[f].Add(uint64(n)) },
	})
}
