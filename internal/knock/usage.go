package knock

import (
	"sync/atomic"
	"time"

	"github.com/knockgw/knockgw/internal/ratelimit"
)

// A Usage is how much of a table, a queue or a budget is used, and its limit.
type Usage struct {
	Resource    string // fit for a metric label
	Used, Limit int
}

// workerUsage is the usage of the worker's own tables, when it last swept them.
type workerUsage struct{ claims, sequences, perSource atomic.Int64 }

// updateUsage publishes the usage of the worker's own tables.
func (w *Worker) updateUsage() {
	u := &w.p.worker
	u.claims.Store(int64(len(w.claims)))
	u.sequences.Store(int64(w.sequences.inFlight))
	u.perSource.Store(int64(w.sequences.maxPerSource()))
}

// WorkerUsage returns the usage of the worker's tables.
func (p *Pipeline) WorkerUsage() []Usage {
	u := &p.worker
	return []Usage{
		{"udp_sequences", int(u.sequences.Load()), MaxUDPSequences},
		{"udp_sequences_per_source", int(u.perSource.Load()), UDPSequencesPerSource},
		{"syn_knock_claims", int(u.claims.Load()), MaxClaims},
	}
}

// Queued returns how many knocks wait in the fast queue and in the slow one, and
// how many may in each.
func (p *Pipeline) Queued() (fast, slow, limit int) {
	return len(p.queues.fast.ready), len(p.queues.slow.ready), cap(p.queues.fast.ready)
}

// SYNSequences returns how many SYN sequences are in progress. The caller holds
// the lock.
func (p *Pipeline) SYNSequences() int { return len(p.sequences.byKey) }

// SourcesPerSequence calls f with how many sources each SYN sequence in progress
// has. The caller holds the lock, which f may release in between.
func (p *Pipeline) SourcesPerSequence(f func(n int)) {
	for _, s := range p.sequences.byKey {
		f(s.n)
	}
}

// Computed returns how many HMACs were computed: ahead, for the table, and to
// find the clients of v1 knocks.
func (p *Pipeline) Computed() (ahead, trials uint64) { return p.computed.Load(), p.trials.Load() }

// Usage returns how much of each budget for all is used, in HMACs. The buckets
// of single sources share tables of fixed size; each one that is empty is
// counted as a refusal.
func (l *Limiter) Usage(now time.Duration) []Usage {
	used := func(b *ratelimit.Bucket) int { return b.Used(rate(hmacRate, hmacBurst), now) }
	return []Usage{
		{"knock_rate_unknown", used(&l.knocks.total), hmacBurst},
		{"knock_rate_known", used(&l.known), hmacBurst},
		{"knock_rate_expected", max(used(&l.opens[limitV2]), used(&l.opens[limitSYN])), hmacBurst},
		{"authentication_budget", used(&l.authentications.total), hmacBurst},
	}
}
