package netstack

import (
	"testing"
	"time"
)

func TestStatsCacheBacksOff(t *testing.T) {
	for _, c := range []struct {
		name  string
		takes time.Duration
		after time.Duration // the first scan
		looks int
	}{
		{"a brief one is", shortScan, 0, 2},
		{"a long one is not", 100 * time.Millisecond, 99 * time.Second, 1},
		{"but then it is", 100 * time.Millisecond, 100 * time.Second, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			var (
				v     statsCache
				looks int
				now   = time.Unix(1, 0)
			)
			look := func() Connections {
				return v.get(func() time.Time { return now }, func() Connections {
					now = now.Add(c.takes)
					looks++
					return Connections{Established: looks}
				})
			}
			look()
			now = now.Add(c.after)
			if seen := look().Established; seen != c.looks {
				t.Errorf("the second answer is of look %d, want %d", seen, c.looks)
			}
		})
	}
}
