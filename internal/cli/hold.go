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
		Long: "Installs the blackhole routes and the rules of the last start that succeeded, and nothing else: no device,\n" +
			"no gateway. It reads no configuration, and needs neither the network nor the addresses. A unit of the\n" +
			"packages runs it at boot, before the network is up, so that the host does not answer for the protected\n" +
			"addresses until the gateway runs, even where that fails to start.\n\n" +
			"--save writes down what the kernel has of them now; the service does so when it is ready. knockgw down\n" +
			"ends it.",
		Args: exactArgs(0),
	}
	state := stateFlag(cmd)
	save := cmd.Flags().Bool("save", false, "write down the routes and rules of this host's gateways, and install nothing")
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

// holdResult is what is silent.
type holdResult struct {
	Prefixes int `json:"prefixes"`
	Ports    int `json:"ports"`
}

func newHoldResult(h routing.ProtectedSet) holdResult {
	return holdResult{len(h.Prefixes), len(h.Ports) + len(h.UDP)}
}

// stateFile is the file of package hold.
type stateFile struct{ path string }

// stateFlag adds --state.
func stateFlag(cmd *cobra.Command) *stateFile {
	s := &stateFile{}
	cmd.Flags().StringVar(&s.path, "state", hold.DefaultPath, "the `file` in which it is remembered across boots")
	completeFlag(cmd, "state", completeFiles("json"))
	return s
}

// isOwnNamespace reports whether the file is of this network namespace: the default one is
// the host's, and nothing of a gateway in a namespace of its own belongs there.
func (s *stateFile) isOwnNamespace() bool {
	if s.path != hold.DefaultPath {
		return true
	}
	host, err := os.Readlink("/proc/1/ns/net")
	if err != nil {
		return true // not root, who alone can write it, or no Linux
	}
	here, err := os.Readlink("/proc/self/ns/net")
	return err != nil || here == host
}

// errNamespace says that the default file is another network's.
var errNamespace = errors.New("this is a network namespace, and " + hold.DefaultPath + " is the host's: name another file with --state")

// save writes down what the kernel has.
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
