package cli

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/gateway"
)

func runCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the gateway",
		Long: "Opens the TUN device, routes the protected prefixes to it, and admits who knocks. It logs a line\n" +
			"with the word ready once packets are admitted or refused. SIGTERM drains and stops; the blackhole\n" +
			"routes stay, so that the protected addresses stay silent: knockgw down removes them. SIGHUP has it\n" +
			"load the configuration anew, as knockgw reload does.\n\n" +
			"Where root starts it, it becomes the account --user once the device and the routes are there, keeps no\n" +
			"capability, and has the kernel refuse what a gateway has no use for. It stays root, without a\n" +
			"capability, only where --user root says so. A device that was prepared (--prepared, --tun-fd) needs no\n" +
			"privilege from the start.",
		Args: exact(0),
	}
	path := configFlag(cmd)
	var own privileges
	own.add(cmd)
	var taken device
	taken.add(cmd)
	format := cmd.Flags().String("log-format", "text", "text or json")
	level := cmd.Flags().String("log-level", "info", "debug, info, warn or error")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		log, err := logger(os.Stderr, *format, *level)
		if err != nil {
			return err
		}
		file, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		load := func() (*config.Config, error) { return loadAndWarn(file, log) }
		cfg, account, err := own.load(cmd, load)
		if err != nil {
			return err
		}
		n := &notices{log: log}
		restorer := newRestorer(log)
		defer restorer.close() //nolint:errcheck // it ends with this process at the latest
		o := gateway.Options{Log: log, Load: load, Source: file, Confine: own.confine(account, log),
			Restorer: restorer.restores(account), Impaired: n.impaired}
		if o.Device, err = taken.open(cfg); err != nil {
			return err
		}
		gw, err := gateway.New(cfg, o)
		if err != nil {
			return err
		}
		if os.Getenv("GOGC") == "" {
			debug.SetGCPercent(gcPercent)
		}
		if n := availableMemory(); n > 0 && os.Getenv("GOMEMLIMIT") == "" {
			debug.SetMemoryLimit(n / memoryParts * memoryUsed)
		}
		return own.lacking(account, serve(cmd.Context(), gw, n))
	}
	return cmd
}

// loadAndWarn loads the configuration and logs its warnings.
func loadAndWarn(path string, log *slog.Logger) (*config.Config, error) {
	cfg, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	for _, w := range cfg.Warnings {
		log.Warn("configuration", "warning", w)
	}
	return cfg, nil
}

// serve runs the gateway, reloads it on SIGHUP, and keeps the service manager
// informed. A SIGHUP that comes before it is ready waits; several that come at once
// are one.
func serve(ctx context.Context, gw *gateway.Gateway, n *notices) error {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	var beside sync.WaitGroup
	beside.Go(func() {
		select {
		case <-gw.Ready():
			n.ready()
		case <-running.Done():
			return
		}
		for {
			select {
			case <-ctx.Done():
				n.stopping()
				return
			case <-running.Done():
				return
			case <-hup:
				n.reload(func() error { _, err := gw.Renew(); return err }) // which logs how it went
			}
		}
	})
	beside.Go(func() { n.watch(running, gw.Pulse) })
	err := gw.Run(ctx)
	stop()
	beside.Wait()
	return err
}

// gcPercent is how much garbage there may be, in percent of what lives, before it
// is collected. Half of Go's default: there is little garbage, so that the
// processor's time does not show it, and an idle flow takes a tenth less memory.
const gcPercent = 50

// memoryUsed of memoryParts of the memory that there is may be garbage and what
// lives before garbage is collected more often than gcPercent says: so the kernel
// need not end the process, and all flows, for garbage.
const memoryUsed, memoryParts = 2, 3
