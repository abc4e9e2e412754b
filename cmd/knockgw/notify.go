package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/knockgw/knockgw/gateway"
)

// notices are what the service manager is told (sd_notify(3)), where there is one
// that listens: NOTIFY_SOCKET in the environment.
type notices struct{ log *slog.Logger }

// tell sends lines of the protocol, each a variable.
func (n notices) tell(lines ...string) {
	if _, err := daemon.SdNotify(false, strings.Join(lines, "\n")); err != nil {
		n.log.Warn("the service manager was not told", "error", err)
	}
}

func (n notices) ready() { n.tell(daemon.SdNotifyReady, "STATUS=Protecting") }

// reload tells that a reload begins, does it, and tells how it went.
func (n notices) reload(renew func() error) {
	n.tell(daemon.SdNotifyReloading, daemon.SdNotifyMonotonicUsec(), "STATUS=Reloading")
	status := "STATUS=Protecting"
	if err := renew(); err != nil && !errors.Is(err, gateway.ErrNotRunning) {
		status = "STATUS=Protecting; the last reload was refused, see the log"
	}
	n.tell(daemon.SdNotifyReady, status)
}

func (n notices) stopping() { n.tell(daemon.SdNotifyStopping, "STATUS=Waiting for flows to end") }

// watchdogShare is how many signs of life the service manager gets in the time in
// which it wants one (sd_watchdog_enabled(3) asks for two).
const watchdogShare = 2

// watch sends a sign of life, until ctx ends, as long as the gate answers and the
// packet reader is not stuck with a packet. It returns at once where the service
// manager wants none.
func (n notices) watch(ctx context.Context, pulse func() (gateway.Pulse, error)) {
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
			n.tell(daemon.SdNotifyWatchdog)
		case now.StuckSince(last):
			n.log.Error("the packet reader is stuck; the service manager is not told that all is well")
		default:
			n.tell(daemon.SdNotifyWatchdog)
		}
		last = now
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
