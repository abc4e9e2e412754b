package auth

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"
)

func nonceOf(i int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(i)) }

func TestMemoryReplayForgetsExpiredNonces(t *testing.T) {
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

func TestMemoryReplaySurvivesClockStepBack(t *testing.T) {
	start := time.Now()
	until := start.Add(time.Minute)
	if isPast(start.Add(time.Minute), until) || !isPast(start.Add(time.Minute+1), until) {
		t.Error("both clocks moved: forgotten only after its time")
	}
	if isPast(start.Round(0).Add(-time.Hour), until) {
		t.Error("forgotten before its time by the wall clock")
	}
}

func TestMemoryReplayReservesRoomPerClient(t *testing.T) {
	now := time.Unix(1790000000, 0)
	r := NewMemoryReplay(func() time.Time { return now })
	until := now.Add(time.Minute)
	for n := range MaxReplaysPerClient {
		if err := r.Claim("greedy", nonceOf(n), until); err != nil {
			t.Fatalf("%d: %v", n, err)
		}
	}
	if err := r.Claim("greedy", nonceOf(-1), until); !errors.Is(err, ErrReplayFull) {
		t.Fatalf("over its limit: %v", err)
	}
	r.total = MaxReplays // as a few more like it would make it
	for n := range ReservedReplays {
		if err := r.Claim("modest", nonceOf(n), until); err != nil {
			t.Fatalf("modest %d: %v", n, err)
		}
	}
	if err := r.Claim("modest", nonceOf(-1), until); !errors.Is(err, ErrReplayFull) {
		t.Errorf("beyond the reserve of a full store: %v", err)
	}
	now = until.Add(1)
	if err := r.Claim("greedy", nonceOf(0), now.Add(time.Minute)); err != nil {
		t.Errorf("after all expired: %v", err)
	}
}
