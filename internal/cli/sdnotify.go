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

// notifier are what the service manager is told (sd_notify(3)), where there is one
// that listens: NOTIFY_SOCKET in the environment.
type notifier struct {
	log *slog.Logger

	mu       sync.Mutex
	started  bool   // ready was told
	problems string // what keeps clients out; "" for nothing
}

// send sends lines of the protocol, each a variable.
func (n *notifier) send(lines ...string) {
	if _, err := daemon.SdNotify(false, strings.Join(lines, "\n")); err != nil {
		n.log.Warn("the service manager was not told", "error", err)
	}
}

func (n *notifier) ready() {
	n.mu.Lock()
	n.started = true
	n.mu.Unlock()
	n.send(daemon.SdNotifyReady, n.status(""))
}

// impaired tells what keeps clients out, which `systemctl status` shows.
func (n *notifier) impaired(problems []string) {
	n.mu.Lock()
	n.problems = strings.Join(problems, "; ")
	started := n.started
	n.mu.Unlock()
	if started {
		n.send(n.status(""))
	}
}

// status is the line about how it is, with a remark.
func (n *notifier) status(remark string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	text := "STATUS=Protecting"
	if n.problems != "" {
		text += ", but " + n.problems
	}
	return text + remark
}

// reload tells that a reload begins, does it, and tells how it went.
func (n *notifier) reload(renew func() error) {
	n.send(daemon.SdNotifyReloading, daemon.SdNotifyMonotonicUsec(), "STATUS=Reloading")
	remark := ""
	if err := renew(); err != nil && !errors.Is(err, gateway.ErrNotRunning) {
		remark = "; the last reload was refused, see the log"
	}
	n.send(daemon.SdNotifyReady, n.status(remark))
}

func (n *notifier) stopping() { n.send(daemon.SdNotifyStopping, "STATUS=Waiting for flows to end") }

// watchdogShare is how many signs of life the service manager gets in the time in
// which it wants one (sd_watchdog_enabled(3) asks for two).
const watchdogShare = 2

// watchdog sends a sign of life, until ctx ends, as long as the gate answers and the
// packet reader is not stuck with a packet. It returns at once where the service
// manager wants none.
func (n *notifier) watchdog(ctx context.Context, pulse func() (gateway.Pulse, error)) {
	within, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		n.log.Warn("the service manager's watchdog cannot be served", "error", err)
	}
	if err != nil || within == 0 {
		return
	}
	ticker := time.NewTicker(within / watchdogShare)
	defer ticker.Stop()
	var last gateway.Pulse
	for {
		now, err := pulse() // waits for the gate
		switch {
		case errors.Is(err, gateway.ErrNotRunning): // it starts or stops, which has a time limit of its own
			n.send(daemon.SdNotifyWatchdog)
		case now.StuckSince(last):
			n.log.Error("the packet reader is stuck; the service manager is not told that all is well")
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
