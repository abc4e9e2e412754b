package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/internal/packettest"
)

// withoutOutput lists the commands without -o json, with the reason.
var withoutOutput = map[string]string{
	"run":                   "its output is the log, with --log-format",
	"restore-routes":        "run starts it, and reads what it prints",
	"connect":               "its output is what the service sends",
	"demo":                  "it is a demonstration, for people",
	"capture":               "its -o is the file; --summary is what -o is elsewhere",
	"help":                  "for people",
	"completion bash":       "for a shell",
	"completion fish":       "for a shell",
	"completion zsh":        "for a shell",
	"completion powershell": "for a shell",
}

// eachCommand calls f with every runnable command, and its name.
func eachCommand(cmd *cobra.Command, f func(c *cobra.Command, name string)) {
	for _, c := range cmd.Commands() {
		eachCommand(c, f)
	}
	if _, name, below := strings.Cut(cmd.CommandPath(), " "); below && !cmd.HasSubCommands() {
		f(cmd, name)
	}
}

func TestOutputFlagOfAllCommands(t *testing.T) {
	eachCommand(command(), func(c *cobra.Command, name string) {
		o := c.Flags().Lookup("output")
		switch {
		case withoutOutput[name] != "":
			return
		case o == nil || o.Shorthand != "o" || o.DefValue != asText:
			t.Errorf("%s has no -o: %+v", name, o)
		default:
			if words, ok := o.Value.(*enumValue); !ok || !slices.Contains(words.allowed, asJSON) {
				t.Errorf("%s has no -o json", name)
			}
		}
	})
}

// snake matches keys in snake case.
var snake = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)

// documented is the page that documents the keys.
const documented = "../../docs/reference.md"

// wellFormed returns an error for keys that are not in snake case, and for
// nulls.
func wellFormed(where string, v any) error {
	switch v := v.(type) {
	case nil:
		return fmt.Errorf("%s is null", where)
	case []any:
		var errs []error
		for i, e := range v {
			errs = append(errs, wellFormed(fmt.Sprintf("%s[%d]", where, i), e))
		}
		return errors.Join(errs...)
	case map[string]any:
		var errs []error
		for k, e := range v {
			if !snake.MatchString(k) {
				errs = append(errs, fmt.Errorf("%s has a key %q", where, k))
			}
			errs = append(errs, wellFormed(where+"."+k, e))
		}
		return errors.Join(errs...)
	}
	return nil
}

// keysOf calls f with each key in v.
func keysOf(v any, f func(key string)) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			keysOf(e, f)
		}
	case map[string]any:
		for k, e := range v {
			f(k)
			keysOf(e, f)
		}
	}
}

func TestJSONIsDocumented(t *testing.T) {
	doc, err := os.ReadFile(documented)
	if err != nil {
		t.Fatal(err)
	}
	_, contract, _ := strings.Cut(string(doc), "## Output for programs")
	contract, _, _ = strings.Cut(contract, "\n## ")
	g := newFakeGateway(t)
	door := newGate(t, echo)
	datagram := packettest.UDP{Src: clientAddr, Dst: netip.MustParseAddrPort("10.77.0.1:62201"), Payload: []byte("hello")}.Packet()
	profiles(t, door.profile("lab", "echo"))
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "libknock.yaml"), []byte("mode: knock-auth\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	small := filepath.Join(dir, "small.yaml")
	text := "tun: {routes: [10.77.0.0/24]}\nclients_dir: clients.d\nservices: [{name: ssh, listen: \"10.77.0.1:22\", upstream: \"10.0.2.2:22\"}]\n"
	if err := os.WriteFile(small, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	at := []string{"--config", g.config}
	for _, c := range []struct {
		line string
		args []string
		keys string // of the first object, in order
		more int    // objects after it
	}{
		{"version", nil, "commit dirty go_version version", 0},
		{"check", at, "file gateway host services warnings", 0},
		{"reload", at, "applied changes config flows_ended grants_ended warnings", 0},
		{"reload --dry-run", at, "applied changes config flows_ended grants_ended warnings", 0},
		{"status", at, "", 0},
		{"flows", at, "flows remaining", 0},
		{"grants", at, "grants", 0},
		{"clients", at, "clients remaining", 0},
		{"bans", at, "bans", 0},
		{"bans remove 10.0.0.0/8", at, "bans_ended", 0},
		{"revoke --all", at, "flows_ended grants_ended", 0},
		{"trace --from 10.1.1.2", at, "detail source step time verdict", 1},
		{"doctor --skip-upstreams", at, "findings ok", 0},
		{"client list", at, "clients invalid", 0},
		{"client add bob --config " + small, nil, "client file gateway profile uri yaml", 0},
		{"client rotate bob --out " + filepath.Join(dir, "bob.yaml") + " --config " + small, nil, "client file gateway out profile", 0},
		{"client show bob --config " + small, nil, "client file profile uri yaml", 0},
		{"client set bob --service ssh --config " + small, nil, "all client file gateway services", 0},
		{"import --name bob " + filepath.Join(dir, "bob.yaml"), nil, "file profile services", 0},
		{"client remove bob --config " + small, nil, "client file gateway", 0},
		{"keygen", nil, "secret", 0},
		{"keygen --out " + filepath.Join(dir, "key"), nil, "file", 0},
		{"knock echo", nil, "address method remote session target", 0},
		{"ping echo -c 1", nil, "address attempts max_seconds median_seconds min_seconds succeeded target", 0},
		{"explain " + captured(t, 1000, datagram, datagram), at, "destination knocks length_bytes number protocol reason source time verdict", 1},
	} {
		args := append(append(strings.Fields(c.line), c.args...), "-o", "json")
		out, _, err := runCommandLine(t, nil, args...)
		if err != nil && c.line != "doctor --skip-upstreams" {
			t.Errorf("%s: %v", c.line, err)
			continue
		}
		in := json.NewDecoder(strings.NewReader(out))
		for i := 0; ; i++ {
			var got map[string]any
			if err := in.Decode(&got); errors.Is(err, io.EOF) && i == c.more+1 {
				break
			} else if err != nil {
				t.Errorf("%s: %d objects, then %v\n%s", c.line, i, err, out)
				break
			}
			if err := wellFormed("", got); err != nil {
				t.Errorf("%s: %v\n%s", c.line, err, out)
			}
			keysOf(got, func(key string) {
				if !strings.Contains(contract, "`"+key+"`") {
					t.Errorf("%s: %s does not say what %s is", c.line, documented, key)
				}
			})
			var keys []string
			for k := range got {
				keys = append(keys, k)
			}
			slices.Sort(keys)
			if text := strings.Join(keys, " "); i == 0 && c.keys != "" && text != c.keys {
				t.Errorf("%s has the keys %q", c.line, text)
			}
		}
	}
}

func TestUnknownFormatIsUsageError(t *testing.T) {
	eachCommand(command(), func(c *cobra.Command, name string) {
		if withoutOutput[name] != "" {
			return
		}
		_, _, err := runCommandLine(t, nil, append(strings.Fields(name), "-o", "xml")...)
		if exitCode(err) != exitUsage || !strings.Contains(err.Error(), "json") {
			t.Errorf("%s -o xml: %v", name, err)
		}
	})
}
