package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/internal/hold"
	"github.com/knockgw/knockgw/internal/routing"
)

func holdCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hold",
		Short: "Keep the protected addresses silent without a gateway",
		Long: "Installs the blackhole routes and rules of the last successful start, without a device\n" +
			"or gateway. It reads no configuration, and needs neither network nor addresses. A\n" +
			"systemd unit of the packages runs it at boot, before the network is up, so that the\n" +
			"host does not answer for the protected addresses until the gateway runs, even if the\n" +
			"gateway fails to start.\n\n" +
			"--save records the routes and rules that the kernel has now; the service does so when\n" +
			"it is ready. knockgw down removes the routes, rules and record.",
		Args: exactArgs(0),
	}
	state := stateFlag(cmd)
	save := cmd.Flags().Bool("save", false, "record the routes and rules of this host's gateways, and install nothing")
	output := outputFlag(cmd)

	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *save {
			return state.save(cmd, *output)
		}
		h, err := hold.Read(state.path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := h.InstallBlackholes(); err != nil {
			return err
		}
		return printResult(cmd, *output, newHoldResult(h), func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "%d prefixes and %d ports are silent\n", len(h.Prefixes), len(h.Ports)+len(h.UDP))
			return err
		})
	}
	return cmd
}

// holdResult counts what is silent.
type holdResult struct {
	Prefixes int `json:"prefixes"`
	Ports    int `json:"ports"`
}

func newHoldResult(h routing.ProtectedSet) holdResult {
	return holdResult{len(h.Prefixes), len(h.Ports) + len(h.UDP)}
}

// stateFile is the file of package hold, which records what stays silent.
type stateFile struct{ path string }

// stateFlag adds --state.
func stateFlag(cmd *cobra.Command) *stateFile {
	s := &stateFile{}
	cmd.Flags().StringVar(&s.path, "state", hold.DefaultPath, "`file` that records the routes for the next boot")
	completeFlag(cmd, "state", completeFiles("json"))
	return s
}

// isOwnNamespace reports whether the file belongs to this network namespace. The
// default file is the host's; gateways in other namespaces must not change it.
func (s *stateFile) isOwnNamespace() bool {
	if s.path != hold.DefaultPath {
		return true
	}
	host, err := os.Readlink("/proc/1/ns/net")
	if err != nil {
		return true // not root, which alone can write it, or not Linux
	}
	here, err := os.Readlink("/proc/self/ns/net")
	return err != nil || here == host
}

// errNamespace says that the default file belongs to another network namespace.
var errNamespace = errors.New("this is a network namespace, and " + hold.DefaultPath +
	" belongs to the host: name another file with --state")

// save records the routes and rules that the kernel has.
func (s *stateFile) save(cmd *cobra.Command, output string) error {
	if !s.isOwnNamespace() {
		return errNamespace
	}
	h, err := routing.Installed()
	if err != nil {
		return err
	}
	if err := hold.Write(s.path, h); err != nil {
		return fmt.Errorf("record what stays silent after a boot: %w", err)
	}
	return printResult(cmd, output, newHoldResult(h), func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%d prefixes and %d ports will be silent after a boot\n", len(h.Prefixes), len(h.Ports)+len(h.UDP))
		return err
	})
}
