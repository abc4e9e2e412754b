package config

import (
	"testing"
	"time"
)

func hours(t *testing.T, text string) *Hours {
	t.Helper()
	return mustParse(t, withClientKeys("hours: "+text)).Clients[0].Hours
}

func TestHoursAbsent(t *testing.T) {
	if h := mustParse(t, minimal).Clients[0].Hours; h != nil || !h.Contains(time.Now()) {
		t.Errorf("got %+v", h)
	}
	h := hours(t, "{from: 08:00}")
	if h.Days != allDays || h.From != 480 || h.To != 1440 || h.Zone != time.UTC {
		t.Errorf("got %+v", h)
	}
	if h = hours(t, "{days: [sun, mon, sun]}"); h.Days != DaysOf(time.Sunday, time.Monday) || h.From != 0 || h.To != 1440 {
		t.Errorf("got %+v", h)
	}
	if got := h.Days.String(); got != "mon,sun" {
		t.Errorf("formatted as %s", got)
	}
}

func TestHoursContains(t *testing.T) {
	for _, c := range []struct {
		hours, at string
		want      bool
	}{
		// 2030-06-14 was a Friday.
		{`{days: [fri], from: "08:00", to: "18:00"}`, "2030-06-14T07:59:59Z", false},
		{`{days: [fri], from: "08:00", to: "18:00"}`, "2030-06-14T08:00:00Z", true},
		{`{days: [fri], from: "08:00", to: "18:00"}`, "2030-06-14T17:59:59.9Z", true},
		{`{days: [fri], from: "08:00", to: "18:00"}`, "2030-06-14T18:00:00Z", false},
		{`{days: [fri], from: "08:00", to: "18:00"}`, "2030-06-13T12:00:00Z", false},
		{`{days: [fri], from: "08:00", to: "18:00"}`, "2030-06-15T12:00:00Z", false},
		{`{days: [fri], from: "08:00", to: "18:00"}`, "2030-06-14T20:00:00+09:00", true}, // 11:00 in UTC
		{`{days: [fri], from: "08:00", to: "18:00"}`, "2030-06-15T02:59:00+09:00", true}, // 17:59 in UTC, a day earlier

		{`{days: [fri]}`, "2030-06-13T23:59:59Z", false},
		{`{days: [fri]}`, "2030-06-14T00:00:00Z", true},
		{`{days: [fri]}`, "2030-06-14T23:59:59Z", true},
		{`{days: [fri]}`, "2030-06-15T00:00:00Z", false},

		// A night belongs to the day it began on.
		{`{days: [fri], from: "22:00", to: "06:00"}`, "2030-06-14T05:00:00Z", false},
		{`{days: [fri], from: "22:00", to: "06:00"}`, "2030-06-14T12:00:00Z", false},
		{`{days: [fri], from: "22:00", to: "06:00"}`, "2030-06-14T22:00:00Z", true},
		{`{days: [fri], from: "22:00", to: "06:00"}`, "2030-06-15T00:00:00Z", true},
		{`{days: [fri], from: "22:00", to: "06:00"}`, "2030-06-15T05:59:59Z", true},
		{`{days: [fri], from: "22:00", to: "06:00"}`, "2030-06-15T06:00:00Z", false},
		{`{days: [fri], from: "22:00", to: "06:00"}`, "2030-06-15T23:00:00Z", false},
		{`{days: [sat], from: "22:00", to: "06:00"}`, "2030-06-16T05:00:00Z", true}, // Sunday, the first of the week
		{`{days: [sun], from: "22:00", to: "06:00"}`, "2030-06-17T05:00:00Z", true},
		{`{days: [fri], from: "22:00", to: "00:00"}`, "2030-06-14T23:59:59Z", true},
		{`{days: [fri], from: "22:00", to: "00:00"}`, "2030-06-15T00:00:00Z", false},

		// The wall clock of the zone, summer and winter.
		{`{days: [fri], from: "08:00", to: "18:00", zone: Europe/Berlin}`, "2030-06-14T05:59:59Z", false},
		{`{days: [fri], from: "08:00", to: "18:00", zone: Europe/Berlin}`, "2030-06-14T06:00:00Z", true},
		{`{days: [fri], from: "08:00", to: "18:00", zone: Europe/Berlin}`, "2030-12-13T06:59:59Z", false},
		{`{days: [fri], from: "08:00", to: "18:00", zone: Europe/Berlin}`, "2030-12-13T07:00:00Z", true},
		{`{days: [fri], zone: Pacific/Auckland}`, "2030-06-13T12:00:00Z", true}, // Friday already
		{`{days: [fri], zone: America/Los_Angeles}`, "2030-06-15T06:59:00Z", true},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := hours(t, c.hours).Contains(at); got != c.want {
			t.Errorf("%s at %s: %v", c.hours, c.at, got)
		}
	}
}

func TestHoursDaylightSaving(t *testing.T) {
	h := hours(t, `{days: [sat], from: "22:00", to: "06:00", zone: Europe/Berlin}`)
	for noon, want := range map[string]time.Duration{ // of the Saturday, in UTC
		"2030-03-30T12:00:00Z": 7 * time.Hour,
		"2030-06-15T12:00:00Z": 8 * time.Hour,
		"2030-10-26T12:00:00Z": 9 * time.Hour,
	} {
		var got time.Duration
		for at := date(noon); at.Before(date(noon).Add(24 * time.Hour)); at = at.Add(time.Minute) {
			if h.Contains(at) {
				got += time.Minute
			}
		}
		if got != want {
			t.Errorf("the night after %s has %v, want %v", noon, got, want)
		}
	}
}

func TestHoursZoneShared(t *testing.T) {
	text := replaceInMinimal(aliceLine, `  - {id: a, secret: 0123456789abcdea, hours: {days: [mon], zone: Europe/Berlin}}
  - {id: b, secret: 0123456789abcdeb, hours: {days: [tue], zone: Europe/Berlin}}`)
	c := mustParse(t, text)
	if c.Clients[0].Hours.Zone != c.Clients[1].Hours.Zone {
		t.Error("read twice")
	}
}
