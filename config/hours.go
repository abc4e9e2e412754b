package config

import (
	"fmt"
	"strings"
	"time"
)

// Hours is a time of day on some days of the week, as the clocks on the walls of one place show it.
//
//	            midnight                 midnight                 midnight
//	From < To      |     From=======To      |                        |
//	From > To      |              From======|=====To                 |   belongs to the day it began on
//
// When the clocks are put forward or back in between, it is an hour shorter or longer.
type Hours struct {
	Days Days
	From int // minutes of the day, 0 to 1439
	To   int // minutes of the day, 1 to 1440; exclusive; not From
	Zone *time.Location
}

// minutesOfDay is 24:00, the end of a day.
const minutesOfDay = 24 * 60

// Contains reports whether t is in the hours. No Hours contain every t.
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

// isUnrestricted reports whether the hours leave nothing out.
func (h *Hours) isUnrestricted() bool {
	return h.Days == allDays && h.From == 0 && h.To == minutesOfDay
}

// Days is a set of days of the week.
type Days uint8

const allDays Days = 1<<7 - 1

// DaysOf is the set of these days.
func DaysOf(days ...time.Weekday) Days {
	var set Days
	for _, d := range days {
		set |= 1 << d
	}
	return set
}

// Has reports whether d is in the set.
func (s Days) Has(d time.Weekday) bool { return s&(1<<d) != 0 }

// String is the spelling of the configuration file, from Monday on.
func (s Days) String() string {
	var names []string
	for i, name := range dayNames() {
		if s.Has(weekday(i)) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

// dayNames are the days as the file spells them, from Monday on.
func dayNames() []string { return []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"} }

// weekday is the day that dayNames has at index i.
func weekday(i int) time.Weekday { return time.Weekday((i + 1) % 7) }

// parseTimeOfDay takes 00:00 to 24:00, as minutes.
func parseTimeOfDay(text string) (int, error) {
	if text == "24:00" {
		return minutesOfDay, nil
	}
	const layout = "15:04"
	t, err := time.Parse(layout, text)
	if err != nil || len(text) != len(layout) { // time.Parse takes 8:00 too
		return 0, fmt.Errorf("%q is not a time of day; write it as 08:00, from 00:00 to 24:00", text)
	}
	return t.Hour()*60 + t.Minute(), nil
}
