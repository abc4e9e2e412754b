package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/sandbox"
)

const (
	// defaultUser is the account that run switches to when started by root. The
	// packages create it.
	defaultUser = "knockgw"
	// rootUser makes root stay root, without capabilities, if named explicitly.
	rootUser = "root"
)

// privilegeFlags say what run does with its privileges. They are not part of the
// configuration: a service manager may have dropped them already.
type privilegeFlags struct {
	user, group string
	keep        bool
	chosen      bool // --user or --group was given
	root        bool // --user is root
	dropped     bool // the privileges are dropped
}

const keepFlag = "insecure-keep-privileges"

func (p *privilegeFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&p.user, "user", defaultUser, "`account` to switch to when started by root, as name or number; with\n"+
		"root it stays root, without capabilities")
	flags.StringVar(&p.group, "group", "", "`group` to switch to (default: the account's)")
	completeFlag(cmd, "user", completeAccounts(accountsFile))
	completeFlag(cmd, "group", completeAccounts(groupsFile))
	flags.BoolVar(&p.keep, keepFlag, false, "do not drop privileges or filter system calls")
}

// account returns the account to switch to; nil to keep the current one. Root
// stays root only if that was requested.
func (p *privilegeFlags) account(cmd *cobra.Command) (*sandbox.Account, error) {
	p.chosen = cmd.Flags().Changed("user") || cmd.Flags().Changed("group")
	if p.keep && p.chosen {
		return nil, &usageError{errors.New("--user and --group exclude --" + keepFlag)}
	}
	if p.keep || os.Geteuid() != 0 && !p.chosen {
		return nil, nil
	}
	if p.root = isRoot(p.user); p.root {
		if p.group != "" {
			return nil, &usageError{errors.New("--user root keeps the groups of root: omit --group, or name another user")}
		}
		if os.Geteuid() != 0 {
			return nil, fmt.Errorf("%w: --user root requires root", sandbox.ErrAccount)
		}
		return nil, nil
	}

	a, err := sandbox.Lookup(p.user, p.group)
	if err != nil && !p.chosen {
		return nil, fmt.Errorf("%w\nthe gateway does not stay root by default: create the account (useradd --system --user-group "+
			"--shell /usr/sbin/nologin %[2]s) and let it own the directories of configuration and state (chown -R %[2]s); "+
			"or name another with --user; or use --user root to stay root without capabilities", err, defaultUser)
	}
	return a, err
}

func isRoot(user string) bool { return user == rootUser || user == "0" }

// load loads the configuration and finds the account to switch to. An error in
// the file is reported before one about the account.
func (p *privilegeFlags) load(cmd *cobra.Command, load func() (*config.Config, error)) (*config.Config, *sandbox.Account, error) {
	account, aerr := p.account(cmd)
	cfg, err := loadAs(account, load)
	if err != nil {
		return nil, nil, err
	}
	return cfg, account, aerr
}

// loadAs loads the configuration with the file access of the account, where
// root can do that: a reload could not read more, and root must not open what
// the account put in the place of a file.
func loadAs(a *sandbox.Account, load func() (*config.Config, error)) (cfg *config.Config, err error) {
	if a == nil || os.Geteuid() != 0 {
		return load()
	}
	err = sandbox.RunAs(a, func() (err error) {
		cfg, err = load()
		return err
	})
	if errors.Is(err, errors.ErrUnsupported) {
		return load()
	}
	if errors.Is(err, fs.ErrPermission) && !errors.Is(err, sandbox.ErrAccount) {
		return nil, &accountError{a, err}
	}
	return cfg, err
}

// An accountError reports that an account lacks access.
type accountError struct {
	account *sandbox.Account
	err     error
}

// Error says what to do.
func (e *accountError) Error() string {
	return fmt.Sprintf("%v\nthe gateway runs as %s, which needs access: make it the owner of the file or directory (chown %s), "+
		"and let it traverse the parent directories", e.err, e.account.Name, e.account.Name)
}

// Unwrap returns the cause.
func (e *accountError) Unwrap() error { return e.err }

// annotate adds the account to a permission error after privileges were dropped.
func (p *privilegeFlags) annotate(a *sandbox.Account, err error) error {
	if a != nil && p.dropped && errors.Is(err, fs.ErrPermission) {
		return &accountError{a, err}
	}
	return err
}

// dropFunc returns a function that drops the privileges.
func (p *privilegeFlags) dropFunc(a *sandbox.Account, log *slog.Logger) func() error {
	return func() error {
		if p.keep {
			log.Warn("privileges are kept: a vulnerability in the gateway is one of this account",
				"flag", "--"+keepFlag, "uid", os.Geteuid())
			return nil
		}
		err := sandbox.Enter(sandbox.Options{Account: a})
		if errors.Is(err, errors.ErrUnsupported) {
			log.Warn("privileges are kept: not supported on this system")
			return nil
		}

		if err == nil {
			p.dropped = true
			if p.root {
				log.Warn("the gateway stays root: without capabilities and with few system calls, but with access to root's files",
					"flag", "--user "+rootUser)
			}
			if !sandbox.Filters() {
				log.Warn("system calls are not filtered: not supported on this system or architecture")
			}
			log.Info("privileges dropped", "uid", os.Getuid(), "gid", os.Getgid())
		}
		return err
	}
}
