package knock

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

const (
	// replayMargin is added to twice the window as the lifetime of a replay key:
	// a message may be as early as it may be late, and clocks have granularity.
	replayMargin = time.Second

	// MaxReuse is how often the sender of a SYN knock may present it again.
	MaxReuse = 8
	// synLifetime is how long a SYN knock's replay key is kept, in slots: the
	// knock is accepted in three, and one more allows for clocks that are set.
	synLifetime = 4
	// MaxClaims bounds the claims remembered; each is a knock that a client
	// made.
	MaxClaims = 1 << 16
)

// claimKey identifies a knock that a slot has room for once: of a client for a
// port.
type claimKey struct {
	id   *protocol.Client
	port uint16
	kind kind
	slot int64
}

// claim is where a SYN knock was sent first, from and to, so that the sender may
// present it again.
type claim struct {
	src, dst packet.Addr
	reuses   int
	expires  time.Duration
}

// claims are the SYN knocks that were accepted. They belong to the worker.
type claims map[claimKey]claim

// claimSYN decides to which sender a SYN knock belongs. The fields name neither
// source nor destination, so the first pair that presents them claims them.
func (w *Worker) claimSYN(k *Item) (Result, error) {
	t := k.match.template
	key := k.match.claimKey()
	if c, ok := w.claims[key]; ok {
		switch {
		case c.src != k.src || c.dst != k.dst:
			return Replayed, nil
		case !k.match.service.Authenticates() || c.reuses >= MaxReuse || k.match.kind != kindSYN:
			return Repeated, nil
		}
		c.reuses++
		w.claims[key] = c
		return OK, nil
	}
	if len(w.claims) >= MaxClaims {
		return LimitReached, nil
	}

	lifetime := synLifetime * slotTime(w.p.policy(), k.match.kind)
	c := []replay.Claim{{Kind: replay.KindSYN, Client: t.Key.Client.ID, Nonce: synNonce(&k.match), Lifetime: lifetime}}
	if k.match.kind != kindSYN {
		c[0].Kind = replay.KindSYNSeq
	}
	w.p.store.Claim(c)
	if r, err := claimResult(c[0].Err); r != OK {
		return r, err
	}
	w.claims[key] = claim{src: k.src, dst: k.dst, expires: w.p.mono() + lifetime}
	return OK, nil
}

// synNonce is a SYN knock's replay key: what its fields are made from, but the
// client, and the fields (of a sequence, the last part's), which differ where
// the client has several secrets.
func synNonce(m *Match) []byte {
	n := make([]byte, 0, 1+2+8+fieldBytes)
	n = append(n, byte(m.kind))
	n = binary.BigEndian.AppendUint16(n, m.template.Port)
	n = binary.BigEndian.AppendUint64(n, uint64(m.slot))
	n = binary.BigEndian.AppendUint64(n, m.fields.a)
	return binary.BigEndian.AppendUint16(n, m.fields.b)
}

// sweep forgets claims whose slot is over.
func (all claims) sweep(now time.Duration) {
	for key, c := range all {
		if c.expires <= now {
			delete(all, key)
		}
	}
}

// claimResult translates a replay store's answer.
func claimResult(err error) (Result, error) {
	switch {
	case err == nil:
		return OK, nil
	case errors.Is(err, replay.ErrReplayed):
		return Replayed, nil
	case errors.Is(err, replay.ErrFull):
		return LimitReached, nil
	default:
		return StoreFailed, err
	}
}
