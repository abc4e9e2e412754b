package statuspage

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/knockgw/knockgw/internal/bytesize"
)

// Plots are drawn as SVG, in a view box of this size.
const (
	width, height = 480.0, 120.0
	headroom      = 1.08 // ratio of the height to the largest value
)

// A plot is one diagram of the last hour.
type plot struct {
	Title string
	Unit  string
	Lines []line
	Max   string // the largest value
}

// A line is one quantity over time.
type line struct {
	Name   string
	Class  string // of the style sheet: a, b or c
	Points string // of a polyline
	Last   string // the newest value
}

// A quantity computes the values of a line from two consecutive samples.
type quantity struct {
	name  string
	value func(before, after *sample) float64
}

// per returns the rate of a total, per second or minute.
func per(unit time.Duration, total func(*sample) uint64) func(a, b *sample) float64 {
	return func(a, b *sample) float64 {
		was, is, took := total(a), total(b), b.at.Sub(a.at)
		if is < was || took <= 0 {
			return 0 // the counters were reset, or the clock was set
		}
		return float64(is-was) * float64(unit) / float64(took)
	}
}

// plots draws the samples, up to now.
func plots(samples []sample, now time.Time) []plot {
	return []plot{
		draw(samples, now, "Dropped packets", "/s", formatRate, []quantity{
			{"by the gate", per(time.Second, func(s *sample) uint64 { return s.Dropped })},
			{"in the kernel", per(time.Second, func(s *sample) uint64 { return s.DroppedInKernel })},
		}),
		draw(samples, now, "Knocks and authentications", "/min", formatRate, []quantity{
			{"knocks accepted", per(time.Minute, func(s *sample) uint64 { return s.Knocks })},
			{"knocks denied", per(time.Minute, func(s *sample) uint64 { return s.KnocksDenied })},
			{"authentications denied", per(time.Minute, func(s *sample) uint64 { return s.AuthsDenied })},
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

// classes are the styles of the lines of a plot, in order.
const classes = "abc"

func draw(samples []sample, now time.Time, title, unit string, text func(float64) string, quantities []quantity) plot {
	p := plot{Title: title, Unit: unit}

	top := 0.0
	values := make([][]float64, len(quantities))
	for i, q := range quantities {
		for j := 1; j < len(samples); j++ {
			v := q.value(&samples[j-1], &samples[j])
			values[i] = append(values[i], v)
			top = max(top, v)
		}
	}

	p.Max = text(top)
	scale := height / max(top*headroom, math.SmallestNonzeroFloat32)
	for i, q := range quantities {
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

// formatRate formats a rate with up to one decimal.
func formatRate(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v < 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.0f", v)
	}
}

// maxName is how many runes of a name the page shows: a client ID may have 64
// KiB.
const maxName = 64

// formatName returns a name, quoted if it contains characters that are not
// printable or change the direction of text.
func formatName(name string) string {
	runes := []rune(name)
	if len(runes) > maxName {
		name = string(runes[:maxName]) + "..."
	}
	if quoted := strconv.Quote(name); quoted != `"`+name+`"` {
		return quoted
	}
	return name
}

// formatDuration formats a duration in its two largest units.
func formatDuration(d time.Duration) string {
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

// formatTime formats a time in UTC.
func formatTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
