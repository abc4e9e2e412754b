package config

import (
	"fmt"
	"strings"
	"time"
)

// Hours is a time of day on some days of the week, in local time of one zone.
//
//	            midnight                 midnight                 midnight
//	From < To      |     From=======To      |                        |
//	From > To      |              From======|=====To                 |   belongs to the day of From
//
// It is an hour shorter or longer if daylight saving time starts or ends in
// between.
type Hours struct {
	Days Days
	From int // minutes of the day, 0 to 1439
	To   int // minutes of the day, 1 to 1440; exclusive; not From
	Zone *time.Location
}

// minutesOfDay is 24:00, the end of a day.
const minutesOfDay = 24 * 60

// Contains reports whether t is within the hours. A nil Hours contains every t.
func (h *Hours) Contains(t time.Time) bool {
	if h == nil {
		return true
	}
	t = t.In(h.Zone)
	minute, today := t.Hour()*60+t.Minute(), t.Weekday()
	if h.From < h.To {
		return h.From <= minute && minute < h.To && h.Days.Has(today)
	}
	return minute >= h.From && h.Days.Has(today) || minute < h.To && h.Days.Has(dayBefore(today))
}

func dayBefore(d time.Weekday) time.Weekday { return (d + 6) % 7 }

// isUnrestricted reports whether the hours contain every time.
func (h *Hours) isUnrestricted() bool {
	return h.Days == allDays && h.From == 0 && h.To == minutesOfDay
}

// Days is a set of days of the week.
type Days uint8

const allDays Days = 1<<7 - 1

// DaysOf returns the set of the given days.
func DaysOf(days ...time.Weekday) Days {
	var set Days
	for _, d := range days {
		set |= 1 << d
	}
	return set
}

// Has reports whether d is in the set.
func (s Days) Has(d time.Weekday) bool { return s&(1<<d) != 0 }

// String returns the days as in the configuration file, starting with Monday.
func (s Days) String() string {
	var names []string
	for i, name := range dayNames() {
		if s.Has(weekday(i)) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

// dayNames returns the names of the days in the file, starting with Monday.
func dayNames() []string { return []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"} }

// weekday returns the day at index i of dayNames.
func weekday(i int) time.Weekday { return time.Weekday((i + 1) % 7) }

// parseTimeOfDay parses 00:00 to 24:00, and returns minutes.
func parseTimeOfDay(text string) (int, error) {
	if text == "24:00" {
		return minutesOfDay, nil
	}
	const layout = "15:04"
	t, err := time.Parse(layout, text)
	if err != nil || len(text) != len(layout) { // time.Parse also accepts 8:00
		return 0, fmt.Errorf("%q is not a time of day; write it as 08:00, from 00:00 to 24:00", text)
	}
	return t.Hour()*60 + t.Minute(), nil
}
