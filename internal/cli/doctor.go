package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/doctor"
	"github.com/knockgw/knockgw/internal/sandbox"
	"github.com/knockgw/knockgw/internal/termsafe"
)

func doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check that this host can run the gateway",
		Long: "Checks the kernel, privileges, forwarding, routes, upstreams, clock, files, limits and\n" +
			"firewall rules of this host against the configuration, and prints a fix for each\n" +
			"problem. It changes nothing. It connects to each upstream once, unless\n" +
			"--skip-upstreams is given. It cannot see the firewalls of other hosts. The exit code is\n" +
			"1 if a check fails.",
		Args: exactArgs(0),
	}
	path := configFlag(cmd)
	output := outputFlag(cmd)
	name := cmd.Flags().String("as", "",
		"`account` that the gateway runs as (default: "+defaultUser+" for root if it exists, else the current user)")
	completeFlag(cmd, "as", completeAccounts(accountsFile))
	prepared := cmd.Flags().Bool("prepared", false, "the interface was prepared, as for knockgw run --prepared")
	skip := cmd.Flags().Bool("skip-upstreams", false, "do not connect to upstreams")

	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		account, err := lookupAccount(*name)
		if err != nil {
			return err
		}
		file, err := filepath.Abs(*path)
		if err != nil {
			return err
		}

		o := doctor.Options{File: file, Account: account, Existing: *prepared, SkipUpstreams: *skip}
		readAs(&o, *name)
		findings := examine(cmd, file, o)
		failed := doctor.Failed(findings)
		report := doctorReport{OK: !failed, Findings: findings}
		if err := printResult(cmd, *output, report, func(w io.Writer) error { return printFindings(w, findings) }); err != nil {
			return err
		}
		if failed {
			return &reportedError{errors.New("this host cannot run the gateway")}
		}
		return nil
	}
	return cmd
}

// doctorReport is the result of doctor.
type doctorReport struct {
	OK       bool             `json:"ok"` // no check failed
	Findings []doctor.Finding `json:"findings"`
}

// readAs makes doctor check files with the rights of the account, which requires
// root.
func readAs(o *doctor.Options, named string) {
	if os.Geteuid() != 0 {
		return
	}
	if o.Account.UID == 0 {
		if named == "" {
			o.MissingAccount = defaultUser
		}
		return
	}
	account := &sandbox.Account{Name: o.Account.Name, UID: o.Account.UID, GID: o.Account.UID}
	if len(o.Account.GIDs) > 0 {
		account.GID = o.Account.GIDs[0] // the others are dropped
	}
	o.RunAs = func(f func() error) error { return sandbox.RunAs(account, f) }
	o.Load = func() error { _, err := config.Load(o.File); return err }
}

// examine checks this host. A configuration that cannot be loaded is the only
// finding.
func examine(cmd *cobra.Command, path string, o doctor.Options) []doctor.Finding {
	cfg, err := config.Load(path)
	if err != nil {
		return []doctor.Finding{{
			Check: "configuration", Level: doctor.Fail, Message: singleLine(err),
			Fix: "fix the file; knockgw check --config " + termsafe.Shell(path) + " reports the same",
		}}
	}
	o.Config = cfg
	return doctor.Examine(cmd.Context(), doctor.ThisHost(cfg), o)
}

// printFindings prints the findings as text.
func printFindings(w io.Writer, all []doctor.Finding) error {
	for _, f := range all {
		if _, err := fmt.Fprintf(w, "%-4s  %s: %s\n", f.Level, termsafe.Text(f.Check), termsafe.Text(f.Message)); err != nil {
			return err
		}
		if f.Fix == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "      -> %s\n", termsafe.Text(f.Fix)); err != nil {
			return err
		}
	}
	return nil
}

// lookupAccount looks up an account by name or number; for "" it returns the
// one that run switches to by default, or the current user.
func lookupAccount(name string) (doctor.Account, error) {
	if name == "" && os.Getuid() == 0 {
		if _, err := user.Lookup(defaultUser); err == nil {
			name = defaultUser
		}
	}
	if name == "" {
		a := doctor.Account{UID: os.Getuid(), Name: strconv.Itoa(os.Getuid())}
		if a.UID == 0 {
			a.Name = "root"
		}
		groups, err := os.Getgroups()
		a.GIDs = append(groups, os.Getgid())
		return a, err
	}

	u, err := user.Lookup(name)
	if err != nil {
		if u, err = user.LookupId(name); err != nil {
			return doctor.Account{}, &usageError{fmt.Errorf("--as %s: there is no such account", name)}
		}
	}

	a := doctor.Account{Name: u.Username}
	if a.UID, err = strconv.Atoi(u.Uid); err != nil {
		return a, err
	}
	ids, err := u.GroupIds()
	for _, id := range ids {
		if gid, err := strconv.Atoi(id); err == nil {
			a.GIDs = append(a.GIDs, gid)
		}
	}
	return a, err
}
