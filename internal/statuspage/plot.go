package statuspage

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/knockgw/knockgw/internal/bytesize"
)

// The plots are drawn here, as SVG, in a box of these units.
const (
	width, height = 480.0, 120.0
	headroom      = 1.08 // between the largest value and the frame
)

// A plot is one picture of the last hour.
type plot struct {
	Title string
	Unit  string
	Lines []line
	Most  string // what the top of the frame stands for
}

// A line is one quantity over time.
type line struct {
	Name   string
	Class  string // of the style sheet: a, b or c
	Points string // of a polyline
	Last   string // the newest value
}

// quantity is how a line's values come from two samples that follow each other.
type quantity struct {
	name  string
	value func(before, after *sample) float64
}

// per makes a rate, a second or a minute, of a total.
func per(unit time.Duration, total func(*sample) uint64) func(a, b *sample) float64 {
	return func(a, b *sample) float64 {
		was, is, took := total(a), total(b), b.at.Sub(a.at)
		if is < was || took <= 0 {
			return 0 // the counters began anew, or the clock was set
		}
		return float64(is-was) * float64(unit) / float64(took)
	}
}

// plots draws what the samples say, ending now.
func plots(samples []sample, now time.Time) []plot {
	return []plot{
		draw(samples, now, "Refused packets", "/s", rateText, []quantity{
			{"by the gate", per(time.Second, func(s *sample) uint64 { return s.Refused })},
			{"in the kernel", per(time.Second, func(s *sample) uint64 { return s.RefusedEarlier })},
		}),
		draw(samples, now, "Knocks and authentications", "/min", rateText, []quantity{
			{"knocks that opened", per(time.Minute, func(s *sample) uint64 { return s.Knocks })},
			{"knocks refused", per(time.Minute, func(s *sample) uint64 { return s.KnocksRefused })},
			{"authentications refused", per(time.Minute, func(s *sample) uint64 { return s.AuthsRefused })},
		}),
		draw(samples, now, "Flows", "", func(v float64) string { return fmt.Sprintf("%.0f", v) }, []quantity{
			{"flows", func(_, b *sample) float64 { return float64(b.Flows) }},
		}),
		draw(samples, now, "Traffic of sessions", "/s", bytesize.Text, []quantity{
			{"from clients", per(time.Second, func(s *sample) uint64 { return s.Received })},
			{"to clients", per(time.Second, func(s *sample) uint64 { return s.Sent })},
		}),
	}
}

// classes are the lines' styles, in their order.
const classes = "abc"

func draw(samples []sample, now time.Time, title, unit string, text func(float64) string, of []quantity) plot {
	p := plot{Title: title, Unit: unit}
	most := 0.0
	values := make([][]float64, len(of))
	for i, q := range of {
		for j := 1; j < len(samples); j++ {
			v := q.value(&samples[j-1], &samples[j])
			values[i] = append(values[i], v)
			most = max(most, v)
		}
	}
	p.Most = text(most)
	scale := height / max(most*headroom, math.SmallestNonzeroFloat32)
	for i, q := range of {
		l := line{Name: q.name, Class: classes[i : i+1]}
		var b strings.Builder
		for j, v := range values[i] {
			x := width * (1 - float64(now.Sub(samples[j+1].at))/float64(span))
			if x < 0 || x > width {
				continue
			}
			fmt.Fprintf(&b, "%.1f,%.1f ", x, height-v*scale)
			l.Last = text(v)
		}
		l.Points = strings.TrimSuffix(b.String(), " ")
		p.Lines = append(p.Lines, l)
	}
	return p
}

// rateText is a number as short as it is useful.
func rateText(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v < 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.0f", v)
	}
}

// longestName is how many runes of a name the page shows: ids may have 64 KiB.
const longestName = 64

// nameText is a name as it is, or quoted if it has anything in it that does not
// show or turns the order of letters round.
func nameText(name string) string {
	runes := []rune(name)
	if len(runes) > longestName {
		name = string(runes[:longestName]) + "..."
	}
	if quoted := strconv.Quote(name); quoted != `"`+name+`"` {
		return quoted
	}
	return name
}

// sinceText is a duration in its two largest units.
func sinceText(d time.Duration) string {
	const day = 24 * time.Hour
	switch d = d.Round(time.Second); {
	case d >= day:
		return fmt.Sprintf("%dd %dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh %dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm %ds", d/time.Minute, d%time.Minute/time.Second)
	default:
		return fmt.Sprintf("%ds", d/time.Second)
	}
}

// clockText is a moment for people and machines.
func clockText(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
