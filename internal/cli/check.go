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
		Short: "Validate a configuration and show what it would protect",
		Long: "Validates the configuration and prints a table of what it would protect. Where a gateway runs on\n" +
			"it, and control.socket is set, it also tells what a reload would change and what needs a restart.\n\n" +
			"What unauthorized hosts see is evaluated with the routes, rules, addresses and settings of this host: those that\n" +
			"a running gateway has, or else those that a start would add to the host's. Problems are printed with a command\n" +
			"that corrects each, and do not change the exit code. Firewalls are not read: knockgw doctor does.",
		Args: exactArgs(0),
	}
	at := addGatewayFlags(cmd)
	output := outputFlag(cmd)
	user := cmd.Flags().String("user", defaultUser, "the `account` that run will become, which must be able to read it")
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

// auditWarnings tries whether this account can write the audit, and leaves the
// disk as it is. The directory may be made by the service manager, so that what
// is wrong now need not be when the gateway starts.
func auditWarnings(file string) []string {
	if file == "" {
		return nil
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = os.CreateTemp(filepath.Dir(file), ".knockgw-check-*")
		if err == nil {
			defer os.Remove(f.Name()) //nolint:errcheck // it was a trial
		}
	}
	if err == nil {
		err = f.Close()
	}
	if err == nil {
		return nil
	}
	return []string{fmt.Sprintf("audit.file: the audit cannot be written, and then the gateway does not start: %v; "+
		"make its directory, writable for the gateway's account", err)}
}

// checkResult is what check finds, besides mistakes.
type checkResult struct {
	File     string         `json:"file"`
	Services []config.Row   `json:"services"`
	Warnings []string       `json:"warnings"`
	Host     *hostReport    `json:"host"`
	Gateway  *reloadPreview `json:"gateway,omitempty"` // absent: none runs that may be asked
}

// reloadPreview is what the running gateway says of a file.
type reloadPreview struct {
	Socket   string          `json:"socket"`
	File     string          `json:"file,omitempty"`    // the one that it runs on; absent with problems
	Changes  *config.Changes `json:"changes,omitempty"` // that a reload would make; absent for another file, and with problems
	Problems []string        `json:"problems"`          // why it would refuse to reload
	Warnings []string        `json:"warnings"`          // what it would fall short of until a restart
}

// previewReload has the gateway at the configuration's socket tell what a reload would change, if one runs; nil
// otherwise. Whether one does, or may be asked, is no business of a check's exit code.
func previewReload(cmd *cobra.Command, cfg *config.Config, file string) (*reloadPreview, error) {
	socket := cfg.Control.Socket
	if socket == "" {
		return nil, nil
	}
	result, err := (&control.Client{Socket: socket}).Check(cmd.Context())
	r := &reloadPreview{Socket: socket, Problems: []string{}, Warnings: []string{}}
	var refused *control.RefusedError
	switch {
	case errors.As(err, &refused): // the file is right, and yet needs a restart; or it is another file
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

// print tells it for people. Nothing is to be told of a gateway that is not there.
func (r *reloadPreview) print(w io.Writer, file string) error {
	switch {
	case r == nil:
	case len(r.Problems) > 0:
		fmt.Fprintf(w, "\nThe gateway at %s would refuse to reload:\n  %s\n", r.Socket, strings.Join(r.Problems, "\n  "))
	case r.File != file:
		fmt.Fprintf(w, "\nThe gateway at %s runs on another file: %s\n", r.Socket, r.File)
	case r.Changes.Empty():
		fmt.Fprintln(w, "\nA gateway runs on this configuration.")
	default:
		fmt.Fprintln(w, "\nA gateway runs on an earlier one. A reload would change:")
		for _, line := range r.Changes.Lines() {
			fmt.Fprintln(w, "  "+line)
		}
		for _, line := range r.Warnings {
			fmt.Fprintln(w, line)
		}
	}
	return nil
}

// runs reports whether it is of a gateway that runs on the file.
func (r *reloadPreview) runs(file string) bool { return r != nil && r.File == file }

func printServices(w io.Writer, rows []config.Row, host *hostReport) error {
	t := newTable(w, "SERVICE", "LISTEN", "MODE", "STRANGERS SEE", "KNOCK", "AUTH", "CLIENTS", "UPSTREAM")
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
		addRow(t, termsafe.Name(r.Service), r.Listen, r.Mode, see, joinLimited(r.Knock), joinLimited(r.Auth), joinLimitedOf(clients, r.NumClients), upstream)
	}
	return t.Flush()
}
