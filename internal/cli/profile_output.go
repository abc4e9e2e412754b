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

// profileOutput prints or writes the profile of a client, for client add,
// rotate and show.
type profileOutput struct {
	name, method, out string
	output            *string
	replace           bool // the client already has a profile of that name
}

// The values of -o besides those of other commands.
const (
	asYAML = "yaml"
	asURI  = "uri"
	asQR   = "qr"
)

// profileMethods returns the values of --method.
func profileMethods() []string {
	return []string{
		protocol.MethodUDPv2, protocol.MethodUDP, protocol.MethodUDPSeq,
		protocol.MethodTCPSYN, protocol.MethodTCPSYNSeq,
	}
}

func (o *profileOutput) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&o.name, "name", "", "`name` of the profile on the client (default: knock.gateway, or this host's name)")
	flags.StringVar(&o.method, "method", "", "knock `method` of the client (default: udp-v2, or one that the service accepts)")
	flags.StringVar(&o.out, "out", "", "write the profile to this new `file`")
	formats := []string{asText, asYAML, asURI, asQR, asJSON}
	o.output = enum{"output `format` (default without a terminal: yaml)", formats}.flag(cmd, "output", "o")
	completeFlag(cmd, "method", cobra.FixedCompletions(profileMethods(), cobra.ShellCompDirectiveNoFileComp))
	completeFlag(cmd, "out", completeFiles())
}

// validate checks the flags before anything is changed.
func (o *profileOutput) validate() error {
	if o.method != "" {
		method, err := protocol.ParseMethod(o.method)
		if err != nil || method == protocol.MethodTCPAuth {
			return &usageError{fmt.Errorf("--method %s: choose %s", o.method, alternatives(profileMethods()))}
		}
		o.method = method
	}
	if o.out == "" {
		return nil
	}
	if *o.output == asQR {
		return &usageError{errors.New("--out: a QR code cannot be written to a file; choose -o yaml or -o uri")}
	}
	if _, err := os.Lstat(o.out); err == nil {
		return &usageError{fmt.Errorf("--out %s: the file exists; name a new one", o.out)}
	}
	if info, err := os.Stat(filepath.Dir(o.out)); err != nil || !info.IsDir() {
		return &usageError{fmt.Errorf("--out %s: there is no directory %s; create it first", o.out, filepath.Dir(o.out))}
	}
	return nil
}

// chooseOutput sets the default format: YAML, which import reads, unless the
// output is a terminal.
func (o *profileOutput) chooseOutput(cmd *cobra.Command) {
	if !cmd.Flags().Changed("output") && !isTerminal(cmd.OutOrStdout()) {
		*o.output = asYAML
	}
}

// run makes a change with a new secret, makes the gateway apply it, and
// delivers the profile. If one of these fails, the change is undone.
func (o *profileOutput) run(cmd *cobra.Command, change func(protocol.Secret) (*enroll.Change, error), id, done string) error {
	if err := o.validate(); err != nil {
		return err
	}
	o.chooseOutput(cmd)
	secret, err := enroll.NewSecret()
	if err != nil {
		return err
	}

	made, err := change(secret)
	if err != nil {
		return err
	}
	text, status, err := o.deliver(cmd, made, id, secret)
	if err != nil {
		return errors.Join(err, made.Undo())
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "client %s %s (%s); %s\n", termsafe.Name(id), done, made.File, status.message())
	if o.out != "" && *o.output != asJSON {
		o.printNextStep(cmd)
		return nil
	}
	_, err = io.WriteString(cmd.OutOrStdout(), text)
	return err
}

// printNextStep prints where the profile is, and how to import it.
func (o *profileOutput) printNextStep(cmd *cobra.Command) {
	replace := ""
	if o.replace {
		replace = "--replace "
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "profile written to %s; on the client: knockgw import %s%s\n", o.out, replace, filepath.Base(o.out))
}

// show prints the current profile of a client, and changes nothing.
func (o *profileOutput) show(cmd *cobra.Command, path, id string) error {
	if err := o.validate(); err != nil {
		return err
	}
	o.chooseOutput(cmd)
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
	p, err := enroll.Profile(c, id, secret, o.options(c, id))
	if err != nil {
		return err
	}

	text, err := o.render(p, isTerminal(cmd.OutOrStdout()))
	if err != nil {
		return err
	}
	if o.out != "" {
		if err := privatefile.Write(o.out, []byte(text), false); err != nil {
			return fmt.Errorf("--out: %w", err)
		}
	}
	switch {
	case *o.output == asJSON:
		text, err = o.json(p, profileResult{Client: id, File: place.File, Profile: p.Name, Out: o.out})
		if err != nil {
			return err
		}
	case o.out != "":
		o.printNextStep(cmd)
		return nil
	}
	_, err = io.WriteString(cmd.OutOrStdout(), text)
	return err
}

// deliver creates the profile, writes it to --out, and makes the gateway reload:
// the steps that can fail.
func (o *profileOutput) deliver(
	cmd *cobra.Command, made *enroll.Change, id string, secret protocol.Secret,
) (text string, status reloadStatus, err error) {
	p, err := enroll.Profile(made.Config, id, secret, o.options(made.Config, id))
	if err != nil {
		return "", "", err
	}
	profile, err := o.render(p, isTerminal(cmd.OutOrStdout()))
	if err != nil {
		return "", "", err
	}
	if o.out != "" {
		if err := privatefile.Write(o.out, []byte(profile), false); err != nil {
			return "", "", fmt.Errorf("--out: %w", err)
		}
	}

	status, err = reloadGateway(cmd.Context(), made.Config)
	if err != nil && o.out != "" {
		err = errors.Join(err, os.Remove(o.out))
	}
	if err != nil || *o.output != asJSON {
		return profile, status, err
	}
	text, err = o.json(p, profileResult{Client: id, File: made.File, Gateway: status, Profile: p.Name, Out: o.out})
	return text, status, err
}

// profileResult is the JSON output. It contains the secret unless a file does.
type profileResult struct {
	Client  string       `json:"client"`
	File    string       `json:"file"`              // on the gateway
	Gateway reloadStatus `json:"gateway,omitempty"` // absent if nothing was changed
	Profile string       `json:"profile"`
	Out     string       `json:"out,omitempty"`
	URI     string       `json:"uri,omitempty"`
	YAML    string       `json:"yaml,omitempty"`
}

// json returns the JSON output.
func (o *profileOutput) json(p *profile.Profile, what profileResult) (string, error) {
	if o.out == "" {
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

// render returns a profile in the format of -o; with JSON, the YAML that --out
// gets.
func (o *profileOutput) render(p *profile.Profile, terminal bool) (string, error) {
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
	case *o.output == asYAML || *o.output == asJSON || *o.output == asText && o.out != "": // import reads both
		return string(text), nil
	case *o.output == asURI:
		return uri + "\n", nil
	case *o.output == asQR && wide != nil:
		return "", wide
	case *o.output == asQR:
		return code.String(), nil
	case wide != nil:
		return fmt.Sprintf("%s\n%s\n\n(%v)\n", text, uri, wide), nil
	default:
		return fmt.Sprintf("%s\n%s\n\n%s", text, uri, code.String()), nil
	}
}

// options returns the options of the profile: those of the flags, or else of the
// previous profile.
func (o *profileOutput) options(c *config.Config, id string) enroll.ProfileOptions {
	var previous config.ClientProfile
	for i := range c.Clients {
		if c.Clients[i].ID == id {
			previous = c.Clients[i].Profile
		}
	}
	return enroll.ProfileOptions{Name: cmp.Or(o.name, previous.Name, profileName(c)), Method: cmp.Or(o.method, previous.Method)}
}

// profileName returns the default name of a profile.
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
