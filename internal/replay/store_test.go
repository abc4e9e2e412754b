package replay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/knockgw/knockgw/internal/testclock"
)

const testLifetime = 61 * time.Second

func storeOptions(c *testclock.Clocks) Options { return Options{Now: c.Now, Mono: c.Mono} }

func knockClaim(client string, n uint64) Claim {
	nonce := binary.BigEndian.AppendUint64(make([]byte, 8), n)
	return Claim{Kind: KindUDP, Client: client, Nonce: nonce, Lifetime: testLifetime}
}

func claimOne(s Store, c Claim) error {
	batch := []Claim{c}
	s.Claim(batch)
	return batch[0].Err
}

func wantErr(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) || (want == nil && got != nil) {
		t.Fatalf("claim: got %v, want %v", got, want)
	}
}

// bothStores runs f with a store of either sort.
func bothStores(t *testing.T, f func(t *testing.T, open func(Options) Store)) {
	t.Run("memory", func(t *testing.T) {
		f(t, func(o Options) Store { return NewMemoryStore(o) })
	})
	t.Run("file", func(t *testing.T) {
		f(t, func(o Options) Store { return openFile(t, t.TempDir(), o) })
	})
}

func TestStoreGrantsKeyOnce(t *testing.T) {
	bothStores(t, func(t *testing.T, open func(Options) Store) {
		s := open(storeOptions(testclock.New()))
		wantErr(t, claimOne(s, knockClaim("alice", 1)), nil)
		wantErr(t, claimOne(s, knockClaim("alice", 1)), ErrReplayed)
		wantErr(t, claimOne(s, knockClaim("alice", 2)), nil)
		wantErr(t, claimOne(s, knockClaim("bob", 1)), nil)
		other := knockClaim("alice", 1)
		other.Kind = KindTCPv1
		wantErr(t, claimOne(s, other), nil)
	})
}

func TestStoreSeparatesClientAndNonce(t *testing.T) {
	s := NewMemoryStore(Options{})
	a := Claim{Kind: KindUDP, Client: "ab", Nonce: []byte("c"), Lifetime: time.Second}
	b := Claim{Kind: KindUDP, Client: "a", Nonce: []byte("bc"), Lifetime: time.Second}
	wantErr(t, claimOne(s, a), nil)
	wantErr(t, claimOne(s, b), nil)
}

func TestStoreDetectsReplayWithinBatch(t *testing.T) {
	bothStores(t, func(t *testing.T, open func(Options) Store) {
		batch := []Claim{knockClaim("alice", 1), knockClaim("alice", 2), knockClaim("alice", 1)}
		open(storeOptions(testclock.New())).Claim(batch)
		wantErr(t, batch[0].Err, nil)
		wantErr(t, batch[1].Err, nil)
		wantErr(t, batch[2].Err, ErrReplayed)
	})
}

func TestStoreRefusesInvalidClaim(t *testing.T) {
	s := NewMemoryStore(Options{})
	for _, c := range []Claim{
		{Client: "a", Nonce: []byte{1}, Lifetime: time.Second},
		{Kind: KindUDP, Client: "a", Lifetime: time.Second},
		{Kind: KindUDP, Client: "a", Nonce: []byte{1}},
		{Kind: KindUDP, Client: "a", Nonce: []byte{1}, Lifetime: MaxLifetime + 1},
	} {
		wantErr(t, claimOne(s, c), ErrInvalidClaim)
	}
}

func TestStoreExpiresKeysByBothClocks(t *testing.T) {
	cases := []struct {
		name  string
		then  func(*testclock.Clocks)
		free  bool
		later func(*testclock.Clocks) // after which it must be free
	}{
		{"just before its end", func(c *testclock.Clocks) { c.Advance(testLifetime) }, false,
			func(c *testclock.Clocks) { c.Advance(time.Second) }},
		{"after its end", func(c *testclock.Clocks) { c.Advance(testLifetime + time.Second) }, true, nil},
		{"stepped forward", func(c *testclock.Clocks) { c.StepWall(time.Hour) }, false,
			func(c *testclock.Clocks) { c.Advance(testLifetime + time.Second) }},
		{"stepped back", func(c *testclock.Clocks) { c.StepWall(-time.Hour); c.Advance(testLifetime + time.Second) }, false,
			func(c *testclock.Clocks) { c.Advance(time.Hour) }},
		{"stepped there and back", func(c *testclock.Clocks) {
			c.StepWall(time.Hour)
			c.Advance(time.Second)
			c.StepWall(-time.Hour)
		}, false, func(c *testclock.Clocks) { c.Advance(testLifetime + time.Second) }},
	}
	bothStores(t, func(t *testing.T, open func(Options) Store) {
		for _, tc := range cases {
			t.Run(tc.name, func(t *testing.T) {
				clocks := testclock.New()
				s := open(storeOptions(clocks))
				wantErr(t, claimOne(s, knockClaim("alice", 1)), nil)
				tc.then(clocks)
				if tc.free {
					wantErr(t, claimOne(s, knockClaim("alice", 1)), nil)
					return
				}
				wantErr(t, claimOne(s, knockClaim("alice", 1)), ErrReplayed)
				tc.later(clocks)
				wantErr(t, claimOne(s, knockClaim("alice", 1)), nil)
			})
		}
	})
}

func TestStoreRefusesWhenFull(t *testing.T) {
	bothStores(t, func(t *testing.T, open func(Options) Store) {
		clocks := testclock.New()
		opts := storeOptions(clocks)
		opts.MaxKeys, opts.MaxPerClient = 100, 100
		s := open(opts)
		for n := range uint64(100) { // a client each: any client may have one while one is free
			wantErr(t, claimOne(s, knockClaim(fmt.Sprint(n), n)), nil)
		}
		wantErr(t, claimOne(s, knockClaim("alice", 1)), ErrFull)
		clocks.Advance(testLifetime + time.Second)
		wantErr(t, claimOne(s, knockClaim("alice", 1)), nil)
	})
}

func TestStoreLimitsKeysPerClient(t *testing.T) {
	bothStores(t, func(t *testing.T, open func(Options) Store) {
		opts := storeOptions(testclock.New())
		opts.MaxKeys, opts.MaxPerClient = 1000, 400
		s := open(opts)
		fill := func(client string) (got int) {
			for n := range uint64(1001) {
				if claimOne(s, knockClaim(client, n)) == nil {
					got++
				}
			}
			return got
		}
		if got := fill("greedy"); got != 400 {
			t.Fatalf("greedy has %d keys, want its cap of 400", got)
		}
		// 300 more leave 300 free, and so on: never all of it.
		for i, want := range []int{300, 150, 75} {
			if got := fill(fmt.Sprint("greedy", i)); got != want {
				t.Fatalf("accomplice %d has %d keys, want %d", i, got, want)
			}
		}
		wantErr(t, claimOne(s, knockClaim("alice", 1)), nil)
	})
}

func TestStoreDoesNotCountGracedKeys(t *testing.T) {
	bothStores(t, func(t *testing.T, open func(Options) Store) {
		clocks := testclock.New()
		opts := storeOptions(clocks)
		opts.MaxKeys, opts.MaxPerClient = 64, 64
		s := open(opts)
		clocks.StepWall(365 * 24 * time.Hour)
		for n := range uint64(32) {
			wantErr(t, claimOne(s, knockClaim("alice", n)), nil)
		}
		wantErr(t, claimOne(s, knockClaim("alice", 99)), ErrFull)
		clocks.StepWall(-365 * 24 * time.Hour)
		clocks.Advance(testLifetime + time.Second)
		wantErr(t, claimOne(s, knockClaim("alice", 100)), nil)
		wantErr(t, claimOne(s, knockClaim("alice", 0)), ErrReplayed)
	})
}

func TestStoreExpiresBoundedNumberPerCall(t *testing.T) {
	clocks := testclock.New()
	s := NewMemoryStore(storeOptions(clocks))
	const keys = 10 * keepCapacity
	for n := range uint64(keys) {
		wantErr(t, claimOne(s, knockClaim("alice", n)), nil)
	}
	clocks.Advance(testLifetime + time.Second)
	s.Claim(nil)
	if got := len(s.keys.recorded); got != keys-expireFloor {
		t.Fatalf("one call left %d of %d keys, want %d", got, keys, keys-expireFloor)
	}
	for range keys / expireFloor {
		s.Claim(nil)
	}
	if len(s.keys.recorded) != 0 || s.keys.counted != 0 || len(s.keys.perClient) != 0 || cap(s.keys.active) != 0 {
		t.Fatalf("an emptied store keeps %d keys, %d counted, %d clients, room for %d",
			len(s.keys.recorded), s.keys.counted, len(s.keys.perClient), cap(s.keys.active))
	}
}

func TestStoreRefusesAfterClose(t *testing.T) {
	bothStores(t, func(t *testing.T, open func(Options) Store) {
		s := open(Options{})
		for range 2 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		wantErr(t, claimOne(s, knockClaim("alice", 1)), ErrClosed)
	})
}

func TestStoreConcurrentClaims(t *testing.T) {
	bothStores(t, func(t *testing.T, open func(Options) Store) {
		s := open(Options{})
		const workers, keys = 8, 200
		wins := make(chan uint64, workers*keys)
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for n := uint64(0); n < keys; n += 2 {
					batch := []Claim{knockClaim("alice", n), knockClaim("alice", n+1)}
					s.Claim(batch)
					for i := range batch {
						if batch[i].Err == nil {
							wins <- n + uint64(i)
						}
					}
				}
			})
		}
		wg.Wait()
		close(wins)
		seen := map[uint64]bool{}
		for n := range wins {
			if seen[n] {
				t.Fatalf("key %d was given twice", n)
			}
			seen[n] = true
		}
		if len(seen) != keys {
			t.Fatalf("%d keys given, want %d", len(seen), keys)
		}
	})
}

// Whatever the clocks do, a key is not granted again while it lives by either of
// them, and the store agrees with a simple model.
func TestStoreMatchesModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clocks := testclock.New()
		opts := storeOptions(clocks)
		s := NewMemoryStore(opts)
		type end struct {
			wall time.Time
			mono time.Duration
		}
		held := map[uint64]end{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			clocks.Advance(time.Duration(rapid.IntRange(0, 90).Draw(t, "pass")) * time.Second)
			if rapid.IntRange(0, 9).Draw(t, "step?") == 0 {
				clocks.StepWall(time.Duration(rapid.IntRange(-300, 300).Draw(t, "step")) * time.Second)
			}
			for n, h := range held {
				if clocks.Now().After(h.wall) && clocks.Mono() > h.mono {
					delete(held, n)
				}
			}
			n := rapid.Uint64Range(0, 5).Draw(t, "key")
			_, lives := held[n]
			if err := claimOne(s, knockClaim("alice", n)); (err == nil) == lives {
				t.Fatalf("key %d lives: %v, claim: %v", n, lives, err)
			} else if err == nil {
				held[n] = end{clocks.Now().Add(testLifetime), clocks.Mono() + testLifetime}
			}
		}
	})
}

func BenchmarkClaim(b *testing.B) {
	for _, sort := range []string{"memory", "file"} {
		b.Run(sort, func(b *testing.B) {
			clocks := testclock.New()
			var s Store = NewMemoryStore(storeOptions(clocks))
			if sort == "file" {
				s = openFile(b, b.TempDir(), storeOptions(clocks))
			}
			b.ReportAllocs()
			var n uint64
			for b.Loop() {
				if n++; n%1000 == 0 {
					clocks.Advance(time.Second)
				}
				if err := claimOne(s, knockClaim("alice", n)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
