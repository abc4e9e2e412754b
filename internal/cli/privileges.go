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
	// defaultUser is whom run becomes when root starts it. The packages make it.
	defaultUser = "knockgw"
	// rootUser, named on purpose, has root stay root, without a capability.
	rootUser = "root"
)

// privilegeFlags are what run does with those that it was started with. They are no
// part of the configuration: a service manager may have given them up already.
type privilegeFlags struct {
	user, group string
	keep        bool
	chosen      bool // the user was named
	root        bool // and is root
	given       bool // what there was has been given up
}

const keepFlag = "insecure-keep-privileges"

func (p *privilegeFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&p.user, "user", defaultUser, "the `account` that run becomes, where root starts it; a name or a number. "+
		"root stays root, without a capability")
	flags.StringVar(&p.group, "group", "", "its `group` (default: the account's own)")
	completeFlag(cmd, "user", completeAccounts(accountsFile))
	completeFlag(cmd, "group", completeAccounts(groupsFile))
	flags.BoolVar(&p.keep, keepFlag, false, "stay root and keep every system call: a mistake in the gateway is one of root's then")
}

// account is whom the gateway is to become; nil where it stays who it is. Root stays
// root only if that was asked for.
func (p *privilegeFlags) account(cmd *cobra.Command) (*sandbox.Account, error) {
	p.chosen = cmd.Flags().Changed("user") || cmd.Flags().Changed("group")
	if p.keep && p.chosen {
		return nil, &usageError{errors.New("--user and --group give up what --" + keepFlag + " keeps; choose")}
	}
	if p.keep || os.Geteuid() != 0 && !p.chosen {
		return nil, nil
	}
	if p.root = isRoot(p.user); p.root {
		if p.group != "" {
			return nil, &usageError{errors.New("--user root keeps root's groups: leave out --group, or name another user")}
		}
		if os.Geteuid() != 0 {
			return nil, fmt.Errorf("%w: root was not who started it; leave out --user", sandbox.ErrAccount)
		}
		return nil, nil
	}
	a, err := sandbox.Lookup(p.user, p.group)
	if err != nil && !p.chosen {
		return nil, fmt.Errorf("%w\nthe gateway does not stay root by itself: make the account (useradd --system --user-group "+
			"--shell /usr/sbin/nologin %[2]s) and give it the configuration's directory and the state's (chown -R %[2]s); "+
			"or name another with --user; or have it stay root without a capability with --user root", err, defaultUser)
	}
	return a, err
}

func isRoot(user string) bool { return user == rootUser || user == "0" }

// load loads the configuration, and finds whom the gateway is to become. A mistake in
// the file is told before one with the account.
func (p *privilegeFlags) load(cmd *cobra.Command, load func() (*config.Config, error)) (*config.Config, *sandbox.Account, error) {
	account, aerr := p.account(cmd)
	cfg, err := loadAs(account, load)
	if err != nil {
		return nil, nil, err
	}
	return cfg, account, aerr
}

// loadAs loads the configuration with the account's rights to files, where root may do
// that: what the account cannot load, no reload could, and what it has put in the
// file's place is not opened by root.
func loadAs(a *sandbox.Account, load func() (*config.Config, error)) (cfg *config.Config, err error) {
	if a == nil || os.Geteuid() != 0 {
		return load()
	}
	err = sandbox.As(a, func() (err error) {
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

// An accountError is what an account lacks.
type accountError struct {
	account *sandbox.Account
	err     error
}

// Error says what it is, and what to do.
func (e *accountError) Error() string {
	return fmt.Sprintf("%v\nthe gateway runs as %s, which must be able to use this: give it the file or directory (chown %s), "+
		"and let it through the directories above", e.err, e.account.Name, e.account.Name)
}

// Unwrap returns what went wrong.
func (e *accountError) Unwrap() error { return e.err }

// annotate adds to what went wrong after privileges were given up who would need them.
func (p *privilegeFlags) annotate(a *sandbox.Account, err error) error {
	if a != nil && p.given && errors.Is(err, fs.ErrPermission) {
		return &accountError{a, err}
	}
	return err
}

// confine gives up what the gateway was started with.
func (p *privilegeFlags) dropFunc(a *sandbox.Account, log *slog.Logger) func() error {
	return func() error {
		if p.keep {
			log.Warn("privileges are kept: a mistake in the gateway is one of this account's", "flag", "--"+keepFlag, "uid", os.Geteuid())
			return nil
		}
		err := sandbox.Enter(sandbox.Options{Account: a})
		if errors.Is(err, errors.ErrUnsupported) {
			log.Warn("privileges are kept: this system has no way to give them up")
			return nil
		}
		if err == nil {
			p.given = true
			if p.root {
				log.Warn("the gateway stays root: it has no capability and few system calls left, but root's files are its own",
					"flag", "--user "+rootUser)
			}
			if !sandbox.Filters() {
				log.Warn("every system call is kept: this system or architecture has no filter of them")
			}
			log.Info("privileges given up", "uid", os.Getuid(), "gid", os.Getgid())
		}
		return err
	}
}
