package observe

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/knockgw/knockgw/internal/routing"
)

// A changeFeed waits for changes of the host's network that the kernel
// announces. If it cannot subscribe to them, it only waits for the time to
// pass.
type changeFeed struct {
	log     *slog.Logger
	polling time.Duration         // how often the caller looks without a change, for the log
	monitor *routing.RouteMonitor // nil while not subscribed
}

func newChangeFeed(log *slog.Logger, polling time.Duration) *changeFeed {
	f := &changeFeed{log: log, polling: polling}
	var err error
	if f.monitor, err = routing.NewRouteMonitor(); err != nil {
		f.monitor = nil
		log.Warn("cannot subscribe to route changes; polling", "interval", polling, "err", err)
	}
	return f
}

// wait waits for a change, for d at most, and reports whether ctx is still
// alive.
func (f *changeFeed) wait(ctx context.Context, d time.Duration) bool {
	if f.monitor == nil {
		return sleep(ctx, d)
	}
	more, err := f.monitor.Wait(ctx, d)
	if err == nil {
		return more
	}
	f.log.Warn("subscription to route changes failed; polling", "interval", f.polling, "err", err)
	f.close()
	return true
}

func (f *changeFeed) close() {
	if f.monitor != nil {
		_ = f.monitor.Close()
		f.monitor = nil
	}
}

// sleep waits for d, and reports whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// A tracked list is the result of the last examination.
type tracked[T comparable] struct{ list atomic.Pointer[[]T] }

// get returns the list.
func (t *tracked[T]) get() []T {
	if list := t.list.Load(); list != nil {
		return *list
	}
	return nil
}

// set replaces the list, and returns the one before and whether they differ.
func (t *tracked[T]) set(list []T) (prev []T, changed bool) {
	prev = t.get()
	t.list.Store(&list)
	return prev, !slices.Equal(prev, list)
}

// A condition is a tracked list of problems of one kind that is logged when it
// changes.
type condition struct {
	tracked[string]
	level   slog.Level
	message string // for the log, while there are problems
	key     string // of the list
	remedy  string // optional
	cleared string // for the log, when there are none any more
}

// update replaces the list and logs it if it changed, which it reports.
func (c *condition) update(log *slog.Logger, list []string) bool {
	_, changed := c.set(list)
	switch {
	case !changed:
	case len(list) == 0:
		log.Info(c.cleared)
	default:
		attrs := []any{c.key, summarize(list)}
		if c.remedy != "" {
			attrs = append(attrs, "remedy", c.remedy)
		}
		log.Log(context.Background(), c.level, c.message, attrs...)
	}
	return changed
}

// maxSummary is how many entries of a list are logged; a restart of the host's
// network removes all routes at once.
const maxSummary = 4

// summarize returns the first entries of a list, and the number of the others.
func summarize(all []string) string {
	text := strings.Join(all[:min(len(all), maxSummary)], "; ")
	if more := len(all) - maxSummary; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}
