package cli

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/gateway"
	"github.com/knockgw/knockgw/internal/hold"
	"github.com/knockgw/knockgw/internal/routing"
)

func downCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Remove the routes that run leaves behind",
		Long: "Removes the blackhole routes and rules that keep the protected addresses silent while\n" +
			"the gateway is not running, and the record that knockgw hold would install them from\n" +
			"at the next boot. Nothing else is changed. Stop the gateway first: while it runs, it\n" +
			"restores its routes.\n\n" +
			"--all needs no configuration, for example if the file is invalid or missing: it\n" +
			"removes the routes and rules of all gateways of this host.",
		Args: exactArgs(0),
	}
	path := configFlag(cmd)
	state := stateFlag(cmd)
	all := cmd.Flags().Bool("all", false, "remove the routes and rules of all configurations, and read none")
	output := outputFlag(cmd)

	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		made, name, err := installedSet(*path, *all)
		if err != nil {
			return err
		}
		rules, lerr := made.HostPorts().Remove()
		routes, rerr := made.Routes().Remove()
		if err = errors.Join(lerr, rerr, state.forget(made, *all)); err != nil {
			return err
		}
		if err := printResult(cmd, *output, downResult{routes, rules}, func(w io.Writer) error {
			text := pluralize(routes, "route")
			if rules > 0 {
				text += " and " + pluralize(rules, "rule")
			}
			_, err := fmt.Fprintln(w, text+" removed")
			return err
		}); err != nil {
			return err
		}
		if name == "" {
			return nil
		}
		return printLeftovers(cmd.ErrOrStderr(), name)
	}
	return cmd
}

// installedSet returns what there is to remove, and the name of the interface
// if it is known.
func installedSet(path string, all bool) (routing.ProtectedSet, string, error) {
	if all {
		made, err := routing.Installed()
		if errors.Is(err, errors.ErrUnsupported) {
			err = nil
		}
		return made, "", err
	}
	cfg, err := config.Load(path)
	if err != nil {
		return routing.ProtectedSet{}, "", err
	}
	return gateway.Protected(cfg), cfg.TUN.Name, nil
}

// forget removes from the record what was removed from the kernel.
func (s *stateFile) forget(made routing.ProtectedSet, all bool) error {
	if !s.isOwnNamespace() {
		return nil // the file belongs to another network namespace
	}
	var err error
	if all {
		err = hold.Remove(s.path)
	} else {
		err = hold.Forget(s.path, made)
	}
	if err != nil {
		return fmt.Errorf("the next boot would install them again: %w; delete %s", err, s.path)
	}
	return nil
}

// errStillRunning says that the gateway was not stopped.
var errStillRunning = errors.New("the gateway is running and restores its routes: " +
	"stop it (systemctl stop knockgw), then run knockgw down again")

// printLeftovers prints what down does not remove because the operator made it.
func printLeftovers(w io.Writer, name string) error {
	switch there, prepared := routing.Leftovers(name); {
	case prepared:
		_, err := fmt.Fprintf(w, "%s was prepared by the operator and remains, with its routes. To remove it:\n"+
			"    ip tuntap del dev %s mode tun\nand for each blackhole route: ip route del blackhole PREFIX\n", name, name)
		return err
	case there:
		return errStillRunning
	}
	return nil
}

// downResult is the result of down.
type downResult struct {
	Routes int `json:"routes_removed"`
	Rules  int `json:"rules_removed"` // of tun.local
}
