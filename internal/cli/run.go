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
		Long: "Opens the TUN device, routes the protected prefixes to it, and runs the gateway. A log\n" +
			"line with the word ready says that it processes packets. SIGTERM drains flows and\n" +
			"stops it; blackhole routes remain, so that the protected addresses stay silent, until\n" +
			"knockgw down removes them. SIGHUP reloads the configuration, as knockgw reload does.\n\n" +
			"Started by root, it switches to the account --user once the device and the routes\n" +
			"exist, drops all capabilities, and installs a seccomp filter. With --user root it\n" +
			"stays root, without capabilities. An interface that was prepared by another program\n" +
			"(--prepared, --tun-fd) needs no privileges from the start.",
		Args: exactArgs(0),
	}
	path := configFlag(cmd)
	var privileges privilegeFlags
	privileges.add(cmd)
	var device tunFlags
	device.add(cmd)
	format := cmd.Flags().String("log-format", "text", "log `format`: text or json")
	level := cmd.Flags().String("log-level", "info", "log `level`: debug, info, warn or error")
	completeFlag(cmd, "log-format", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	completeFlag(cmd, "log-level", cobra.FixedCompletions([]string{"debug", "info", "warn", "error"}, cobra.ShellCompDirectiveNoFileComp))

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
		cfg, account, err := privileges.load(cmd, load)
		if err != nil {
			return err
		}

		n := &notifier{log: log}
		restorer := newRestorer(log)
		defer restorer.close() //nolint:errcheck // ends with this process in any case
		o := gateway.Options{Log: log, Load: load, Source: file, DropPrivileges: privileges.dropFunc(account, log),
			Restorer: restorer.startFunc(account), Impaired: n.impaired}
		if o.Device, err = device.open(cfg); err != nil {
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
			debug.SetMemoryLimit(memoryShare(n))
		}
		return privileges.annotate(account, serve(cmd.Context(), gw, n))
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

// serve runs the gateway, reloads it on SIGHUP, and notifies the service
// manager. A SIGHUP before the gateway is ready waits; several at once count as
// one.
func serve(ctx context.Context, gw *gateway.Gateway, n *notifier) error {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)

	var wg sync.WaitGroup
	wg.Go(func() {
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
				n.reload(func() error { _, err := gw.ReloadFromSource(); return err }) // which logs the result
			}
		}
	})
	wg.Go(func() { n.watchdog(running, gw.Heartbeat) })

	err := gw.Run(ctx)
	stop()
	wg.Wait()
	return err
}

// gcPercent is half of Go's default (GOGC). The gateway produces so little
// garbage that the additional collections do not show in its CPU time, and an
// idle flow takes a tenth less memory.
const gcPercent = 50

// memoryShare is the part of the available memory beyond which garbage is
// collected more often (GOMEMLIMIT): the kernel must not kill the process, and
// end all flows, because of garbage.
func memoryShare(available int64) int64 { return available / 3 * 2 }
