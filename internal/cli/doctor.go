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
		Short: "Say whether this host can run the gateway, and what to type where not",
		Long: "Looks at the kernel, the privileges of whoever asks, forwarding, routes, upstreams, the clock, files,\n" +
			"limits and firewall rules, and says of each whether the gateway of the configuration can do with it; where not,\n" +
			"what to type. It changes nothing. It connects to each upstream once, unless --skip-upstreams is given. Firewalls of\n" +
			"other hosts cannot be seen from here. The exit code is 1 if anything fails.",
		Args: exactArgs(0),
	}
	path := configFlag(cmd)
	output := outputFlag(cmd)
	name := cmd.Flags().String("as", "", "the `account` that the gateway runs as, where files are concerned (default: "+defaultUser+" where root asks and there is one, otherwise whoever asks)")
	completeFlag(cmd, "as", completeAccounts(accountsFile))
	prepared := cmd.Flags().Bool("prepared", false, "the interface is one that was prepared, as for knockgw run --prepared")
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
		o := doctor.Options{File: file, Account: account, Prepared: *prepared, SkipUpstreams: *skip}
		readAs(&o, *name)
		findings := examine(cmd, file, o)
		failed := doctor.Failed(findings)
		report := doctorReport{OK: !failed, Findings: findings}
		if err := printResult(cmd, *output, report, func(w io.Writer) error { return printFindings(w, findings) }); err != nil {
			return err
		}
		if failed {
			return &reportedError{errors.New("this host cannot run the gateway as it is")}
		}
		return nil
	}
	return cmd
}

// doctorReport is what doctor has found.
type doctorReport struct {
	OK       bool             `json:"ok"` // nothing fails
	Findings []doctor.Finding `json:"findings"`
}

// readAs has doctor look at files with the rights of the account, which takes root.
func readAs(o *doctor.Options, named string) {
	if os.Geteuid() != 0 {
		return
	}
	if o.Account.UID == 0 {
		if named == "" {
			o.NoAccount = defaultUser
		}
		return
	}
	account := &sandbox.Account{Name: o.Account.Name, UID: o.Account.UID, GID: o.Account.UID}
	if len(o.Account.GIDs) > 0 {
		account.GID = o.Account.GIDs[0] // the others are given up
	}
	o.As = func(f func() error) error { return sandbox.As(account, f) }
	o.Load = func() error { _, err := config.Load(o.File); return err }
}

// examine looks at this host. A configuration that cannot be loaded is a finding, too, and the only one then.
func examine(cmd *cobra.Command, path string, o doctor.Options) []doctor.Finding {
	cfg, err := config.Load(path)
	if err != nil {
		return []doctor.Finding{{
			Check: "configuration", Level: doctor.Fail, Message: singleLine(err), Fix: "mend the file; knockgw check --config " + termsafe.Shell(path) + " tells the same",
		}}
	}
	o.Config = cfg
	return doctor.Examine(cmd.Context(), doctor.ThisHost(cfg), o)
}

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

// lookupAccount looks an account up, by name or number; "" is whom run becomes by default, or whoever asks.
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
