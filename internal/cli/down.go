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
		Long: "Removes the blackhole routes and the rules that keep the protected addresses silent while the gateway is\n" +
			"not running, and what knockgw hold would install of them at the next boot. Only what knockgw made is\n" +
			"touched. Stop the gateway first: one that runs adds its routes again.\n\n" +
			"--all needs no configuration: it removes what knockgw made for any, as when the file is broken or gone.",
		Args: exactArgs(0),
	}
	path := configFlag(cmd)
	state := stateFlag(cmd)
	all := cmd.Flags().Bool("all", false, "remove what was made for every configuration, and read none")
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

// installedSet is what there is to remove, and the name of its interface if that is known.
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
	return gateway.Hold(cfg), cfg.TUN.Name, nil
}

// forget takes out of the state what was removed.
func (s *stateFile) forget(made routing.ProtectedSet, all bool) error {
	if !s.isOwnNamespace() {
		return nil // this is another network namespace than the one that the file is of
	}
	var err error
	if all {
		err = hold.Remove(s.path)
	} else {
		err = hold.Forget(s.path, made)
	}
	if err != nil {
		return fmt.Errorf("the next boot black-holes them again: %w; delete %s", err, s.path)
	}
	return nil
}

// errStillRunning says that the gateway was not stopped.
var errStillRunning = errors.New("the gateway runs, and adds its routes again: stop it (systemctl stop knockgw), and run knockgw down again")

// printLeftovers says what down has left, because it is not its own.
func printLeftovers(w io.Writer, name string) error {
	switch there, prepared := routing.Leftovers(name); {
	case prepared:
		_, err := fmt.Fprintf(w, "%s was prepared by the operator, and is left alone with the routes that were made for it:\n"+
			"    ip tuntap del dev %s mode tun\nremoves it, and ip route del blackhole PREFIX each blackhole\n", name, name)
		return err
	case there:
		return errStillRunning
	}
	return nil
}

// downResult is what down has removed.
type downResult struct {
	Routes int `json:"routes_removed"`
	Rules  int `json:"rules_removed"` // of tun.local
}
