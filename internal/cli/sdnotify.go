package cli

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/knockgw/knockgw/gateway"
)

// notifier sends notifications to the service manager, if there is one
// (NOTIFY_SOCKET, sd_notify(3)).
type notifier struct {
	log *slog.Logger

	mu       sync.Mutex
	started  bool   // ready was sent
	problems string // that keep clients out; "" for none
}

// send sends variables, one per line.
func (n *notifier) send(lines ...string) {
	if _, err := daemon.SdNotify(false, strings.Join(lines, "\n")); err != nil {
		n.log.Warn("cannot notify the service manager", "err", err)
	}
}

func (n *notifier) ready() {
	n.mu.Lock()
	n.started = true
	n.mu.Unlock()
	n.send(daemon.SdNotifyReady, n.status(""))
}

// impaired sends the problems that keep clients out, which systemctl status
// shows.
func (n *notifier) impaired(problems []string) {
	n.mu.Lock()
	n.problems = strings.Join(problems, "; ")
	started := n.started
	n.mu.Unlock()
	if started {
		n.send(n.status(""))
	}
}

// status returns the STATUS variable, with a remark.
func (n *notifier) status(remark string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	text := "STATUS=Protecting"
	if n.problems != "" {
		text += ", but " + n.problems
	}
	return text + remark
}

// reload calls reload and notifies before and after it.
func (n *notifier) reload(reload func() error) {
	n.send(daemon.SdNotifyReloading, daemon.SdNotifyMonotonicUsec(), "STATUS=Reloading")
	remark := ""
	if err := reload(); err != nil && !errors.Is(err, gateway.ErrNotRunning) {
		remark = "; the last reload was rejected, see the log"
	}
	n.send(daemon.SdNotifyReady, n.status(remark))
}

func (n *notifier) stopping() { n.send(daemon.SdNotifyStopping, "STATUS=Waiting for flows to end") }

// watchdogShare is the number of watchdog notifications in the period that the
// service manager requests (sd_watchdog_enabled(3) recommends two).
const watchdogShare = 2

// watchdog sends notifications until ctx ends, as long as the gate answers and
// the packet reader is not stalled. It returns at once if the service manager
// requests none.
func (n *notifier) watchdog(ctx context.Context, heartbeat func() (gateway.Liveness, error)) {
	within, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		n.log.Warn("cannot serve the watchdog of the service manager", "err", err)
	}
	if err != nil || within == 0 {
		return
	}

	ticker := time.NewTicker(within / watchdogShare)
	defer ticker.Stop()
	var last gateway.Liveness
	for {
		now, err := heartbeat() // blocks until the gate answers
		switch {
		case errors.Is(err, gateway.ErrNotRunning): // starting or stopping, which has its own time limit
			n.send(daemon.SdNotifyWatchdog)
		case now.Stalled(last):
			n.log.Error("packet reader stalled; watchdog not notified")
		default:
			n.send(daemon.SdNotifyWatchdog)
		}
		last = now

		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
