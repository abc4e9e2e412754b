package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/gateway"
	"github.com/knockgw/knockgw/internal/bypass"
	"github.com/knockgw/knockgw/internal/control"
	"github.com/knockgw/knockgw/internal/sandbox"
	"github.com/knockgw/knockgw/internal/termsafe"
)

func checkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Validate a configuration and show what it protects",
		Long: "Validates the configuration and prints a table of the services it protects. If a\n" +
			"gateway runs on it and control.socket is set, check also prints what a reload would\n" +
			"change and what needs a restart.\n\n" +
			"What unauthorized hosts see is evaluated with the routes, rules, addresses and\n" +
			"settings of this host: those in force while a gateway runs, otherwise those that a\n" +
			"start would add. Problems are printed with a command that fixes each; they do not\n" +
			"change the exit code. Firewall rules are checked by knockgw doctor.",
		Args: exactArgs(0),
	}
	at := addGatewayFlags(cmd)
	output := outputFlag(cmd)
	user := cmd.Flags().String("user", defaultUser, "`account` that knockgw run switches to, which must be able to read the file")
	completeFlag(cmd, "user", completeAccounts(accountsFile))

	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		account, err := sandbox.Lookup(*user, "")
		if err != nil && cmd.Flags().Changed("user") && !isRoot(*user) {
			return err
		}
		cfg, err := loadAs(account, func() (*config.Config, error) {
			cfg, err := config.Load(*at.config)
			if err != nil {
				return nil, err
			}
			cfg.Warnings = append(cfg.Warnings, auditWarnings(cfg.Audit.File)...)
			return cfg, nil
		})
		if err != nil {
			return err
		}

		if _, err := gateway.New(cfg, gateway.Options{}); err != nil {
			return err
		}
		file, err := filepath.Abs(*at.config)
		if err != nil {
			return err
		}

		found := checkResult{File: file, Services: cfg.Table(), Warnings: append([]string{}, cfg.Warnings...)}
		protected := bypass.ProtectedBy(cfg)
		cfg.Control.Socket = cmp.Or(*at.socket, cfg.Control.Socket)
		found.Gateway, err = previewReload(cmd, cfg, file)
		if err != nil {
			return err
		}
		found.Host = examineHost(protected, found.Gateway.runs(file))

		if *output != asJSON {
			for _, w := range cfg.Warnings {
				fmt.Fprintln(cmd.ErrOrStderr(), w)
			}
			if err := printServices(cmd.OutOrStdout(), found.Services, found.Host); err != nil {
				return err
			}
		}
		return printResult(cmd, *output, found, func(w io.Writer) error {
			found.Host.print(w)
			return found.Gateway.print(w, file)
		})
	}
	return cmd
}

// auditWarnings returns a warning if this account cannot write the audit file.
// It does not change the disk. The service manager may create the directory, so
// this is not an error before the gateway starts.
func auditWarnings(file string) []string {
	if file == "" {
		return nil
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = os.CreateTemp(filepath.Dir(file), ".knockgw-check-*")
		if err == nil {
			defer os.Remove(f.Name()) //nolint:errcheck // a probe
		}
	}
	if err == nil {
		err = f.Close()
	}
	if err == nil {
		return nil
	}
	return []string{fmt.Sprintf("audit.file: the audit file cannot be written, and the gateway would not start: %v; "+
		"create its directory, writable by the gateway's account", err)}
}

// checkResult is the result of check, besides errors.
type checkResult struct {
	File     string         `json:"file"`
	Services []config.Row   `json:"services"`
	Warnings []string       `json:"warnings"`
	Host     *hostReport    `json:"host"`
	Gateway  *reloadPreview `json:"gateway,omitempty"` // absent if none runs, or access is denied
}

// reloadPreview is what a reload of the running gateway would do.
type reloadPreview struct {
	Socket   string          `json:"socket"`
	File     string          `json:"file,omitempty"`    // that the gateway runs on; absent with problems
	Changes  *config.Changes `json:"changes,omitempty"` // absent for another file, and with problems
	Problems []string        `json:"problems"`          // why it would reject the reload
	Warnings []string        `json:"warnings"`          // what needs a restart to be complete
}

// previewReload asks the gateway at the configuration's socket what a reload
// would change. It returns nil if none runs or access is denied: neither
// affects the exit code of check.
func previewReload(cmd *cobra.Command, cfg *config.Config, file string) (*reloadPreview, error) {
	socket := cfg.Control.Socket
	if socket == "" {
		return nil, nil
	}
	result, err := (&control.Client{Socket: socket}).Check(cmd.Context())
	r := &reloadPreview{Socket: socket, Problems: []string{}, Warnings: []string{}}

	var refused *control.RefusedError
	switch {
	case errors.As(err, &refused): // valid, but it needs a restart; or another file
		r.Problems = refused.Problems
		return r, nil
	case errors.Is(err, control.ErrNotRunning):
		return nil, nil
	case errors.Is(err, fs.ErrPermission), errors.Is(err, control.ErrUnavailable):
		fmt.Fprintln(cmd.ErrOrStderr(), err)
		return nil, nil
	case err != nil:
		return nil, err
	}

	if r.File = result.Config; r.File == file {
		r.Changes = &result.Changes
		for _, w := range result.Warnings {
			if !slices.Contains(cfg.Warnings, w) {
				r.Warnings = append(r.Warnings, w)
			}
		}
	}
	return r, nil
}

// print prints the preview as text; nothing if no gateway runs.
func (r *reloadPreview) print(w io.Writer, file string) error {
	switch {
	case r == nil:
	case len(r.Problems) > 0:
		fmt.Fprintf(w, "\nThe gateway at %s would reject a reload:\n  %s\n", r.Socket, strings.Join(r.Problems, "\n  "))
	case r.File != file:
		fmt.Fprintf(w, "\nThe gateway at %s runs on another file: %s\n", r.Socket, r.File)
	case r.Changes.Empty():
		fmt.Fprintln(w, "\nThe gateway runs on this configuration.")
	default:
		fmt.Fprintln(w, "\nThe gateway runs on an earlier version. A reload would change:")
		for _, line := range r.Changes.Lines() {
			fmt.Fprintln(w, "  "+line)
		}
		for _, line := range r.Warnings {
			fmt.Fprintln(w, line)
		}
	}
	return nil
}

// runs reports whether the gateway runs on the file.
func (r *reloadPreview) runs(file string) bool { return r != nil && r.File == file }

// printServices prints the table of services.
func printServices(w io.Writer, rows []config.Row, host *hostReport) error {
	t := newTable(w, "SERVICE", "LISTEN", "MODE", "SCANNERS SEE", "KNOCK", "AUTH", "CLIENTS", "UPSTREAM")
	for _, r := range rows {
		see := host.exposure(r)
		upstream := r.Upstream
		if upstream == "" {
			upstream = "(this program)"
		}
		var clients []string
		for _, id := range r.Clients[:min(len(r.Clients), maxListed)] {
			clients = append(clients, termsafe.Name(id))
		}
		addRow(t, termsafe.Name(r.Service), r.Listen, r.Mode, see,
			joinLimited(r.Knock), joinLimited(r.Auth), joinLimitedOf(clients, r.NumClients), upstream)
	}
	return t.Flush()
}
