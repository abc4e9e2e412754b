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

// maxLine is how many bytes a terminal keeps of a line, its end included: the rest is lost. (Linux; the BSDs
// have less, and a URI that was cut off is refused as such.)
const maxLine = 4095

// maxImport is in bytes: the largest profile, as a URI.
const maxImport = 96 << 10

func importCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import [FILE]",
		Short: "Take a profile that a gateway handed out",
		Long: "Reads a profile, its file or a file with its URI, and saves it where the other commands look for it:\n" +
			"in $" + profile.DirectoryVariable + ", or knockgw in $XDG_CONFIG_HOME or ~/.config. Without FILE, or with -, it asks\n" +
			"for the URI, which is not shown, or reads standard input.\n\n" +
			"A URI has the secret in it. It is not taken as an argument, which others on this host can see.",
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) > 0 && strings.HasPrefix(strings.TrimSpace(args[0]), profile.Scheme):
				return &usageError{errors.New("a URI on the command line stays in the shell's history, and others see it in the " +
					"list of processes; run knockgw import without it, and paste it there")}
			case len(args) > 1:
				return &usageError{fmt.Errorf("one file at a time; usage: %s", cmd.UseLine())}
			}
			return nil
		},
	}
	name := cmd.Flags().String("name", "", "what to call the profile here (default: what it says)")
	cmd.ValidArgsFunction = completeOnce(completeFiles())
	output := outputFlag(cmd)
	replace := cmd.Flags().Bool("replace", false, "replace the profile of that name")
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
			return fmt.Errorf("%w; choose another --name, or --replace it", err)
		}
		if err != nil {
			return err
		}
		made := importResult{Profile: p.Name, File: path, Services: importedServices(dir, p)}
		return printResult(cmd, *output, made, func(w io.Writer) error {
			fmt.Fprintf(w, "profile %s is saved in %s\n\n", p.Name, path)
			t := newTable(w, "SERVICE", "ADDRESS", "REACH IT WITH")
			for _, s := range made.Services {
				addRow(t, s.Name, s.Address, s.Command)
			}
			return t.Flush()
		})
	}
	return cmd
}

// readImport reads the profile that the arguments name, or asks for it.
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
		fmt.Fprint(cmd.ErrOrStderr(), "Paste the profile's URI and press Enter (it is not shown): ")
		text, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(cmd.ErrOrStderr())
		if err != nil {
			return nil, fmt.Errorf("import: read the URI: %w", err)
		}
		if len(text) >= maxLine {
			return nil, errors.New("import: the URI is longer than what a terminal takes on one line; put it into a file with mode 0600")
		}
		return parseImport("the input", text)
	}
	text, err := io.ReadAll(io.LimitReader(in, maxImport+1))
	if err != nil {
		return nil, fmt.Errorf("import: read standard input: %w", err)
	}
	if len(text) > maxImport {
		return nil, fmt.Errorf("import: standard input has more than %d bytes; is it the right file?", maxImport)
	}
	return parseImport("the input", text)
}

// parseImport takes either spelling of a profile.
func parseImport(name string, text []byte) (*profile.Profile, error) {
	trimmed := strings.TrimSpace(string(text))
	if trimmed == "" {
		return nil, fmt.Errorf("import: %s is empty; it must be a profile or its URI", name)
	}
	if !strings.HasPrefix(trimmed, profile.Scheme) {
		if !looksLikeProfile(text) {
			return nil, fmt.Errorf("import: %s is neither a profile nor its URI; ask for one of them, as knockgw client show prints it on the gateway", name)
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
// of a line. What has none is another file, and its mistakes as YAML say nothing.
func looksLikeProfile(text []byte) bool {
	if !utf8.Valid(text) {
		return false
	}
	return slices.ContainsFunc(strings.Split(string(text), "\n"), func(line string) bool {
		key, _, ok := strings.Cut(strings.TrimPrefix(line, "\uFEFF"), ":")
		return ok && slices.Contains([]string{"version", "profile", "client", "secret", "services"}, strings.Trim(key, "{\"' \t"))
	})
}

// importResult is what import has made.
type importResult struct {
	Profile  string            `json:"profile"`
	File     string            `json:"file"`
	Services []importedService `json:"services"`
}

// importedService is a service of a new profile.
type importedService struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	Target  string `json:"target"`  // as connect and others take it
	Command string `json:"command"` // with which it is reached, most likely
}

// importedServices says how to reach each service of a new profile.
func importedServices(dir profile.Directory, p *profile.Profile) []importedService {
	all := []importedService{}
	taken := map[string]bool{}
	for i := range p.Services {
		s := &p.Services[i]
		target := s.Name
		if door, err := dir.Find(target); err != nil || door.Profile.Name != p.Name {
			target = p.Name + "/" + s.Name // several profiles have one of that name
		}
		all = append(all, importedService{s.Name, s.Address, target, suggestCommand(target, s, taken)})
	}
	return all
}

// sshPort is where a service is most likely SSH.
const sshPort = "22"

// The ports where a service is most likely a web site's.
const httpPort, httpsPort = "80", "443"

// suggestCommand is a command with which a service is reached. One that is more than an address is reached by those. The
// local ports that it names are put into taken.
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

// proxyName is a target as it is called in a proxy.
func proxyName(target string) string {
	if name, service, ok := strings.Cut(target, "/"); ok {
		return service + "." + name
	}
	return target
}

// localPort is a port that anybody may listen on, that resembles the service's, and that is not taken: 0, any,
// if there is none.
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
