package observe

import (
	"errors"
	"testing"
	"time"
)

func TestRouteMonitorGivesUpAfterRestoreTime(t *testing.T) {
	t.Parallel()
	began := time.Now()
	cut, spare := []string{"the route of 10.77.0.0/24 to knock0"}, []string{"the blackhole of 10.77.0.0/24"}
	for name, looks := range map[string][]struct {
		after   time.Duration
		missing []string
		lost    bool
	}{
		"nothing is missing":             {{0, nil, false}, {time.Hour, nil, false}},
		"a blackhole is missing":         {{0, spare, false}, {time.Hour, spare, false}},
		"a route is missing":             {{0, cut, false}, {restoreTime - 1, cut, false}, {restoreTime, cut, true}},
		"it was restored in time":        {{0, cut, false}, {restoreTime - 1, nil, false}, {restoreTime, cut, false}, {2*restoreTime - 1, cut, false}, {2 * restoreTime, cut, true}},
		"a blackhole, and then a route ": {{0, spare, false}, {restoreTime, cut, false}, {2 * restoreTime, cut, true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var m RouteMonitor
			for _, look := range looks {
				pause, err := m.deadline(look.missing, began.Add(look.after))
				if errors.Is(err, ErrRoutesLost) != look.lost {
					t.Errorf("after %v with %q missing: %v", look.after, look.missing, err)
				}
				if err == nil && len(look.missing) > 0 && look.missing[0] == cut[0] && pause > restoreTime/2 {
					t.Errorf("the next verification is after %v", pause)
				}
			}
		})
	}
}
