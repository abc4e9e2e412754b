package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/client/profile"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/enroll"
	"github.com/knockgw/knockgw/internal/privatefile"
	"github.com/knockgw/knockgw/internal/qrcode"
	"github.com/knockgw/knockgw/internal/termsafe"
	"github.com/knockgw/knockgw/protocol"
)

// profileOutput is how a client's profile leaves the gateway: what client add and client rotate have in common.
type profileOutput struct {
	name, method, out string
	output            *string
	replace           bool // the client has a profile of that name already
}

// The values of -o, besides those of other commands.
const (
	asYAML = "yaml"
	asURI  = "uri"
	asQR   = "qr"
)

// profileMethods are what --method takes.
func profileMethods() []string {
	return []string{protocol.MethodUDPv2, protocol.MethodUDP, protocol.MethodUDPSeq, protocol.MethodTCPSYN, protocol.MethodTCPSYNSeq}
}

func (h *profileOutput) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&h.name, "name", "", "the profile's `name` on the client (default: knock.gateway, or this host's name)")
	flags.StringVar(&h.method, "method", "", "how the client is to knock (default: udp-v2, or what the service takes)")
	flags.StringVar(&h.out, "out", "", "write the profile to this new `file` instead")
	h.output = enum{"how to print the profile (default without a terminal: yaml)", []string{asText, asYAML, asURI, asQR, asJSON}}.flag(cmd, "output", "o")
	completeFlag(cmd, "method", cobra.FixedCompletions(profileMethods(), cobra.ShellCompDirectiveNoFileComp))
	completeFlag(cmd, "out", completeFiles())
}

// check refuses flags before anything is done.
func (h *profileOutput) check() error {
	if h.method != "" {
		method, err := protocol.ParseMethod(h.method)
		if err != nil || method == protocol.MethodTCPAuth {
			return &usageError{fmt.Errorf("--method %s: choose %s", h.method, alternatives(profileMethods()))}
		}
		h.method = method
	}
	if h.out == "" {
		return nil
	}
	if *h.output == asQR {
		return &usageError{errors.New("--out: a QR code is for a terminal; choose -o yaml or -o uri")}
	}
	if _, err := os.Lstat(h.out); err == nil {
		return &usageError{fmt.Errorf("--out %s: there is a file already; name a new one", h.out)}
	}
	if info, err := os.Stat(filepath.Dir(h.out)); err != nil || !info.IsDir() {
		return &usageError{fmt.Errorf("--out %s: there is no directory %s; make it first", h.out, filepath.Dir(h.out))}
	}
	return nil
}

// chooseOutput is the format where none was named: what is not for a person is
// for knockgw import.
func (h *profileOutput) chooseOutput(cmd *cobra.Command) {
	if !cmd.Flags().Changed("output") && !isTerminal(cmd.OutOrStdout()) {
		*h.output = asYAML
	}
}

// run makes a change with a new secret, has the gateway take it up, and hands the profile out. What fails
// before that leaves everything as it was.
func (h *profileOutput) run(cmd *cobra.Command, change func(protocol.Secret) (*enroll.Change, error), id, done string) error {
	if err := h.check(); err != nil {
		return err
	}
	h.chooseOutput(cmd)
	secret, err := enroll.NewSecret()
	if err != nil {
		return err
	}
	made, err := change(secret)
	if err != nil {
		return err
	}
	text, said, err := h.deliver(cmd, made, id, secret)
	if err != nil {
		return errors.Join(err, made.Undo())
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "client %s %s (%s); %s\n", termsafe.Name(id), done, made.File, said.message())
	if h.out != "" && *h.output != asJSON {
		h.printNextStep(cmd)
		return nil
	}
	_, err = io.WriteString(cmd.OutOrStdout(), text)
	return err
}

// printNextStep says where the profile is, and what to do with it.
func (h *profileOutput) printNextStep(cmd *cobra.Command) {
	again := ""
	if h.replace {
		again = "--replace "
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "its profile is in %s; on the client: knockgw import %s%s\n", h.out, again, filepath.Base(h.out))
}

// show prints the profile of a client as it is, and changes nothing.
func (h *profileOutput) show(cmd *cobra.Command, path, id string) error {
	if err := h.check(); err != nil {
		return err
	}
	h.chooseOutput(cmd)
	c, err := config.Load(path)
	if err != nil {
		return err
	}
	client, place, err := enroll.Find(c, id)
	if err != nil {
		return err
	}
	secret, err := enroll.CurrentSecret(client, time.Now())
	if err != nil {
		return err
	}
	p, err := enroll.Profile(c, id, secret, h.options(c, id))
	if err != nil {
		return err
	}

	text, err := h.render(p, isTerminal(cmd.OutOrStdout()))
	if err != nil {
		return err
	}
	if h.out != "" {
		if err := privatefile.Write(h.out, []byte(text), false); err != nil {
			return fmt.Errorf("--out: %w", err)
		}
	}
	switch {
	case *h.output == asJSON:
		text, err = h.json(p, profileResult{Client: id, File: place.File, Profile: p.Name, Out: h.out})
		if err != nil {
			return err
		}
	case h.out != "":
		h.printNextStep(cmd)
		return nil
	}
	_, err = io.WriteString(cmd.OutOrStdout(), text)
	return err
}

// deliver makes the profile, writes it to --out, and has the gateway take the change up: what can fail.
func (h *profileOutput) deliver(cmd *cobra.Command, made *enroll.Change, id string, secret protocol.Secret) (text string, said reloadStatus, err error) {
	p, err := enroll.Profile(made.Config, id, secret, h.options(made.Config, id))
	if err != nil {
		return "", "", err
	}
	profile, err := h.render(p, isTerminal(cmd.OutOrStdout()))
	if err != nil {
		return "", "", err
	}
	if h.out != "" {
		if err := privatefile.Write(h.out, []byte(profile), false); err != nil {
			return "", "", fmt.Errorf("--out: %w", err)
		}
	}
	said, err = reloadGateway(cmd.Context(), made.Config)
	if err != nil && h.out != "" {
		err = errors.Join(err, os.Remove(h.out))
	}
	if err != nil || *h.output != asJSON {
		return profile, said, err
	}
	text, err = h.json(p, profileResult{Client: id, File: made.File, Gateway: said, Profile: p.Name, Out: h.out})
	return text, said, err
}

// profileResult is what -o json says. The secret is in it where it is not in a file.
type profileResult struct {
	Client  string       `json:"client"`
	File    string       `json:"file"`              // on the gateway
	Gateway reloadStatus `json:"gateway,omitempty"` // absent where nothing was changed
	Profile string       `json:"profile"`
	Out     string       `json:"out,omitempty"`
	URI     string       `json:"uri,omitempty"`
	YAML    string       `json:"yaml,omitempty"`
}

func (h *profileOutput) json(p *profile.Profile, what profileResult) (string, error) {
	if h.out == "" {
		text, err := p.Marshal()
		if err != nil {
			return "", err
		}
		what.YAML = string(text)
		if what.URI, err = p.URI(); err != nil {
			return "", err
		}
	}
	b, err := json.MarshalIndent(what, "", "  ")
	return string(b) + "\n", err
}

// render is a profile as -o asks for it. JSON is about it, and takes its place on standard output alone.
func (h *profileOutput) render(p *profile.Profile, terminal bool) (string, error) {
	text, err := p.Marshal()
	if err != nil {
		return "", err
	}
	uri, err := p.URI()
	if err != nil {
		return "", err
	}
	var code strings.Builder
	var wide *qrcode.TooWideError
	if err := qrcode.Write(&code, uri, terminal); err != nil && !errors.As(err, &wide) {
		return "", err
	}
	switch {
	case *h.output == asYAML || *h.output == asJSON || *h.output == asText && h.out != "": // an import reads either
		return string(text), nil
	case *h.output == asURI:
		return uri + "\n", nil
	case *h.output == asQR && wide != nil:
		return "", wide
	case *h.output == asQR:
		return code.String(), nil
	case wide != nil:
		return fmt.Sprintf("%s\n%s\n\n(%v)\n", text, uri, wide), nil
	default:
		return fmt.Sprintf("%s\n%s\n\n%s", text, uri, code.String()), nil
	}
}

// options are what the profile is made with: what the flags say, or what it was made with before.
func (h *profileOutput) options(c *config.Config, id string) enroll.Terms {
	var before config.ClientProfile
	for i := range c.Clients {
		if c.Clients[i].ID == id {
			before = c.Clients[i].Profile
		}
	}
	return enroll.Terms{Name: cmp.Or(h.name, before.Name, profileName(c)), Method: cmp.Or(h.method, before.Method)}
}

// profileName is what a client calls this gateway unless told otherwise.
func profileName(c *config.Config) string {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	host, _, _ = strings.Cut(host, ".")
	for _, name := range []string{c.Knock.Gateway, host} {
		if profile.IsName(name) {
			return name
		}
	}
	return "knockgw"
}
