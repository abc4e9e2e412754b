package auth

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"
)

func nonceOf(i int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(i)) }

func TestANonceIsForgottenOnlyAfterItsTime(t *testing.T) {
	now := time.Unix(1790000000, 0)
	r := NewMemoryReplay(func() time.Time { return now })
	until := now.Add(replayAge(DefaultWindow))
	if err := r.Claim("a", nonceOf(1), until); err != nil {
		t.Fatal(err)
	}
	if err := r.Claim("b", nonceOf(1), until); err != nil {
		t.Errorf("another client: %v", err)
	}
	now = until
	if err := r.Claim("a", nonceOf(1), until); !errors.Is(err, ErrReplayed) {
		t.Errorf("at its time: %v", err)
	}
	now = until.Add(1)
	if err := r.Claim("a", nonceOf(1), now.Add(time.Minute)); err != nil || r.total != 2 {
		t.Errorf("after its time: %v, %d kept", err, r.total)
	}
}

func TestASteppedClockForgetsNothing(t *testing.T) {
	start := time.Now()
	until := start.Add(time.Minute)
	wallAhead := start.Round(0).Add(time.Hour) // only the wall clock moved: no monotonic reading to show it
	if !past(wallAhead, until) {
		t.Skip("times without a monotonic reading compare by wall clock alone")
	}
	if past(start.Add(time.Minute), until) || !past(start.Add(time.Minute+1), until) {
		t.Error("both clocks moved")
	}
}

func TestNoClientFillsTheStoreForTheOthers(t *testing.T) {
	now := time.Unix(1790000000, 0)
	r := NewMemoryReplay(func() time.Time { return now })
	until := now.Add(time.Minute)
	const greedy = MaxReplays / MaxReplaysPerClient
	for i := range greedy {
		client := string(rune('A' + i))
		for n := range MaxReplaysPerClient {
			if err := r.Claim(client, nonceOf(n), until); err != nil {
				t.Fatalf("%s %d: %v", client, n, err)
			}
		}
		if err := r.Claim(client, nonceOf(-1), until); !errors.Is(err, ErrReplayFull) {
			t.Fatalf("%s over its limit: %v", client, err)
		}
	}
	for n := range ReservedReplays {
		if err := r.Claim("modest", nonceOf(n), until); err != nil {
			t.Fatalf("modest %d: %v", n, err)
		}
	}
	if err := r.Claim("modest", nonceOf(-1), until); !errors.Is(err, ErrReplayFull) {
		t.Errorf("beyond the reserve of a full store: %v", err)
	}
	now = until.Add(1)
	if err := r.Claim("A", nonceOf(0), now.Add(time.Minute)); err != nil {
		t.Errorf("after all expired: %v", err)
	}
}
