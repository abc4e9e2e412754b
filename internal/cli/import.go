package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/knockgw/knockgw/client/profile"
	"github.com/knockgw/knockgw/internal/privatefile"
)

// maxLine is the number of bytes that a terminal keeps of a line, including its
// end (Linux; less on the BSDs, where a truncated URI is rejected).
const maxLine = 4095

// maxImport is the maximum size of the input in bytes: the largest profile as a
// URI.
const maxImport = 96 << 10

func importCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import [FILE]",
		Short: "Import a profile from a gateway",
		Long: "Reads a profile, as YAML or as a URI, and saves it in the directory of profiles:\n" +
			"$" + profile.DirectoryVariable + ", or knockgw in $XDG_CONFIG_HOME or ~/.config. Without FILE, or with -,\n" +
			"it reads standard input; on a terminal it prompts for the URI, without echo.\n\n" +
			"A URI contains the secret. It is not accepted as an argument, which other users of this\n" +
			"host can see.",
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) > 0 && strings.HasPrefix(strings.TrimSpace(args[0]), profile.Scheme):
				return &usageError{errors.New("a URI on the command line stays in the shell's history, and other users see it in the " +
					"process list; run knockgw import without it, and paste it there")}
			case len(args) > 1:
				return &usageError{fmt.Errorf("one file at a time; usage: %s", cmd.UseLine())}
			}
			return nil
		},
	}
	name := cmd.Flags().String("name", "", "`name` to save the profile as (default: the name in it)")
	cmd.ValidArgsFunction = completeOnce(completeFiles())
	output := outputFlag(cmd)
	replace := cmd.Flags().Bool("replace", false, "replace an existing profile of that name")

	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := readImport(cmd, args)
		if err != nil {
			return err
		}
		if *name != "" {
			p.Name = *name
		}
		dir, err := profile.DefaultDirectory()
		if err != nil {
			return err
		}

		path, err := dir.Save(p, *replace)
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%w; choose another --name, or use --replace", err)
		}
		if err != nil {
			return err
		}

		made := importResult{Profile: p.Name, File: path, Services: importedServices(dir, p)}
		return printResult(cmd, *output, made, func(w io.Writer) error {
			fmt.Fprintf(w, "profile %s saved to %s\n\n", p.Name, path)
			t := newTable(w, "SERVICE", "ADDRESS", "COMMAND")
			for _, s := range made.Services {
				addRow(t, s.Name, s.Address, s.Command)
			}
			return t.Flush()
		})
	}
	return cmd
}

// readImport reads the profile from the file in the arguments, or from standard
// input.
func readImport(cmd *cobra.Command, args []string) (*profile.Profile, error) {
	if len(args) == 1 && args[0] != "-" {
		text, err := privatefile.Read(args[0], maxImport)
		if err != nil {
			return nil, fmt.Errorf("import: %w", err)
		}
		return parseImport(args[0], text)
	}

	in := cmd.InOrStdin()
	if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(cmd.ErrOrStderr(), "Paste the profile's URI and press Enter (no echo): ")
		text, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(cmd.ErrOrStderr())
		if err != nil {
			return nil, fmt.Errorf("import: read the URI: %w", err)
		}
		if len(text) >= maxLine {
			return nil, errors.New("import: the URI is longer than a line of a terminal; put it into a file with mode 0600")
		}
		return parseImport("the input", text)
	}

	text, err := io.ReadAll(io.LimitReader(in, maxImport+1))
	if err != nil {
		return nil, fmt.Errorf("import: read standard input: %w", err)
	}
	if len(text) > maxImport {
		return nil, fmt.Errorf("import: standard input has more than %d bytes and is not a profile", maxImport)
	}
	return parseImport("the input", text)
}

// parseImport parses a profile in either format.
func parseImport(name string, text []byte) (*profile.Profile, error) {
	trimmed := strings.TrimSpace(string(text))
	if trimmed == "" {
		return nil, fmt.Errorf("import: %s is empty; write a profile or its URI", name)
	}
	if !strings.HasPrefix(trimmed, profile.Scheme) {
		if !looksLikeProfile(text) {
			return nil, fmt.Errorf("import: %s is neither a profile nor its URI; knockgw client show prints both on the gateway", name)
		}
		return profile.Parse(name, text)
	}
	p, err := profile.ParseURI(trimmed)
	if err != nil {
		return nil, fmt.Errorf("import: %s: %w", name, err)
	}
	return p, nil
}

// looksLikeProfile reports whether text has a key of a profile at the beginning
// of a line. For any other file, YAML errors would be meaningless.
func looksLikeProfile(text []byte) bool {
	if !utf8.Valid(text) {
		return false
	}
	return slices.ContainsFunc(strings.Split(string(text), "\n"), func(line string) bool {
		key, _, ok := strings.Cut(strings.TrimPrefix(line, "\uFEFF"), ":")
		return ok && slices.Contains([]string{"version", "profile", "client", "secret", "services"}, strings.Trim(key, "{\"' \t"))
	})
}

// importResult is the result of import.
type importResult struct {
	Profile  string            `json:"profile"`
	File     string            `json:"file"`
	Services []importedService `json:"services"`
}

// importedService describes a service of the profile.
type importedService struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	Target  string `json:"target"`  // for connect and other commands
	Command string `json:"command"` // likely command to connect with
}

// importedServices describes the services of a new profile.
func importedServices(dir profile.Directory, p *profile.Profile) []importedService {
	all := []importedService{}
	taken := map[string]bool{}
	for i := range p.Services {
		s := &p.Services[i]
		target := s.Name
		if e, err := dir.Find(target); err != nil || e.Profile.Name != p.Name {
			target = p.Name + "/" + s.Name // several profiles have one of that name
		}
		all = append(all, importedService{s.Name, s.Address, target, suggestCommand(target, s, taken)})
	}
	return all
}

// Well-known ports, from which the protocol is guessed.
const sshPort, httpPort, httpsPort = "22", "80", "443"

// suggestCommand returns a command to connect to a service with. It adds the
// local port that it suggests to taken. A service with several addresses is
// addressed by them.
func suggestCommand(target string, s *profile.Service, taken map[string]bool) string {
	host, port, err := net.SplitHostPort(s.Address)
	switch several := strings.Contains(host, "/"); {
	case err != nil:
		return ""
	case port == sshPort && several:
		return "ssh -o ProxyCommand='knockgw connect %h:%p' USER@ADDRESS"
	case port == sshPort:
		return fmt.Sprintf("ssh -o ProxyCommand='knockgw connect %s' USER@%s", target, s.Name)
	case several:
		return "knockgw connect ADDRESS:" + port
	case port == httpPort:
		return fmt.Sprintf("knockgw proxy; curl -x socks5h://%s http://%s/", proxyAddress, proxyName(target))
	case port == httpsPort:
		return fmt.Sprintf("knockgw proxy; curl -x socks5h://%s https://%s/", proxyAddress, proxyName(target))
	default:
		return fmt.Sprintf("knockgw forward %s --listen 127.0.0.1:%s", target, localPort(port, taken))
	}
}

// proxyName returns the name of a target in a proxy.
func proxyName(target string) string {
	if name, service, ok := strings.Cut(target, "/"); ok {
		return service + "." + name
	}
	return target
}

// localPort returns an unprivileged port that resembles the service's and is not
// taken; "0", any free port, if there is none.
func localPort(port string, taken map[string]bool) string {
	const privileged, shift, last = 1024, 10000, 65535
	n, err := strconv.Atoi(port)
	if err != nil {
		return "0"
	}
	if n < privileged {
		n += shift
	}
	for ; n <= last; n += shift {
		if local := strconv.Itoa(n); !taken[local] {
			taken[local] = true
			return local
		}
	}
	return "0"
}
