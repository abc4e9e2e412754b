package cli

import (
	"fmt"
	"io"
	"log/slog"
)

// logger returns a logger for the values of --log-format and --log-level.
func logger(w io.Writer, format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, &usageError{fmt.Errorf("--log-level %s: choose debug, info, warn or error", level)}
	}
	o := &slog.HandlerOptions{Level: l, ReplaceAttr: formatDurations}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), nil
	default:
		return nil, &usageError{fmt.Errorf("--log-format %s: choose text or json", format)}
	}
}

// formatDurations formats durations as 5s in JSON too, instead of nanoseconds.
func formatDurations(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}
