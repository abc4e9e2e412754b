package config

import (
	"errors"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/knockgw/knockgw/internal/strictyaml"
)

// timestamp reads a date, and reports whether there was a valid one.
func timestamp(s *strictyaml.Section, name string, to *time.Time) bool {
	n := s.Value(name)
	if n == nil {
		return false
	}
	v := strictyaml.Resolve(n)
	if tag := v.ShortTag(); v.Kind != yaml.ScalarNode || tag != "!!timestamp" && tag != "!!str" {
		s.FailKey(name, "must be a date such as 2030-12-31, not %s", strictyaml.KindOf(v))
		return false
	}
	t, err := parseTimestamp(v.Value)
	if err != nil {
		s.FailKey(name, "%q: %v", v.Value, err)
		return false
	}
	*to = t
	return true
}

var (
	errTimestamp = errors.New("is not a date; write it as 2030-12-31, which means the end of that day in UTC, " +
		"or as 2030-12-31T18:00:00+01:00")
	errTimestampZone = errors.New("the offset from UTC is missing; add Z for UTC, or one such as +01:00")
	errTimestampYear = errors.New("the year is out of range; write one from 1970 to 9998, or remove the key for no end")
)

// parseTimestamp parses a time in RFC 3339, or a date, which stands for the end
// of that day in UTC.
func parseTimestamp(text string) (time.Time, error) {
	t, err := time.Parse(time.DateOnly, text)
	if err == nil {
		return checkYear(t.AddDate(0, 0, 1), t.Year())
	}
	if t.UnmarshalText([]byte(text)) != nil { // stricter than time.Parse, which also accepts T8:00
		if u := (time.Time{}); u.UnmarshalText([]byte(text+"Z")) == nil {
			return time.Time{}, errTimestampZone
		}
		return time.Time{}, errTimestamp
	}
	return checkYear(t.UTC(), t.Year())
}

// checkYear rejects years that are out of range, such as the first second of
// the year 1, which is the zero Time.
func checkYear(t time.Time, year int) (time.Time, error) {
	if year < minYear || year > maxYear {
		return time.Time{}, errTimestampYear
	}
	return t, nil
}
