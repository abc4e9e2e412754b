package profile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/protocol"
)

// header is the first line of a profile's file.
const header = "# A knockgw profile. It contains a secret: do not share it.\n"

// Marshal returns the content of the profile's file, including the secret and
// without most defaults. Parse returns the same profile for it. A profile that
// Parse would reject is an error.
func (p *Profile) Marshal() ([]byte, error) {
	full, err := p.complete()
	if err != nil {
		return nil, err
	}
	text, err := full.encode(true)
	if err != nil {
		return nil, err
	}
	return append([]byte(header), text...), nil
}

// document is the encoding of a profile: in YAML, and in JSON inside a URI.
type document struct {
	Version  int          `yaml:"version,omitempty" json:"version,omitempty"`
	Profile  string       `yaml:"profile" json:"profile"`
	Client   string       `yaml:"client" json:"client"`
	Secret   string       `yaml:"secret" json:"secret"`
	Gateway  string       `yaml:"gateway,omitempty" json:"gateway,omitempty"`
	Server   string       `yaml:"server,omitempty" json:"server,omitempty"`
	Window   string       `yaml:"window,omitempty" json:"window,omitempty"`
	Services []docService `yaml:"services" json:"services"`
}

type docService struct {
	Name      string       `yaml:"name" json:"name"`
	Address   string       `yaml:"address" json:"address"`
	Mode      string       `yaml:"mode,omitempty" json:"mode,omitempty"`
	Method    string       `yaml:"method,omitempty" json:"method,omitempty"`
	KnockPort uint16       `yaml:"knock_port,omitempty" json:"knock_port,omitempty"`
	Port      uint16       `yaml:"port,omitempty" json:"port,omitempty"`
	Auth      *docAuth     `yaml:"auth,omitempty,flow" json:"auth,omitempty"`
	Sequence  *docSequence `yaml:"sequence,omitempty,flow" json:"sequence,omitempty"`
	Slot      string       `yaml:"slot,omitempty" json:"slot,omitempty"`
}

type docAuth struct {
	Protocol string `yaml:"protocol,omitempty" json:"protocol,omitempty"`
	Hint     string `yaml:"hint,omitempty" json:"hint,omitempty"`
	Buckets  []int  `yaml:"buckets,omitempty,flow" json:"buckets,omitempty"`
	Proof    bool   `yaml:"proof,omitempty" json:"proof,omitempty"`
}

type docSequence struct {
	Length int    `yaml:"length,omitempty" json:"length,omitempty"`
	Gap    string `yaml:"gap,omitempty" json:"gap,omitempty"`
	Slot   string `yaml:"slot,omitempty" json:"slot,omitempty"`
	Legacy bool   `yaml:"legacy,omitempty" json:"legacy,omitempty"`
}

// encode returns the profile in YAML. If readable, mode and method are included
// even if they are the defaults.
func (p *Profile) encode(readable bool) ([]byte, error) {
	d := p.document()
	d.Version = version
	if readable {
		for i := range d.Services {
			d.Services[i].Mode, d.Services[i].Method = p.Services[i].Mode, p.Services[i].Method
		}
	}
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(indent)
	if err := e.Encode(d); err != nil { //nolint:gosec // a profile contains its secret
		return nil, fmt.Errorf("profile %s: %w", p.Name, err)
	}
	if err := e.Close(); err != nil {
		return nil, fmt.Errorf("profile %s: %w", p.Name, err)
	}
	return b.Bytes(), nil
}

const indent = 2 // spaces, as in the documentation

// compact returns the profile in JSON, as short as possible.
func (p *Profile) compact() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(p.document()); err != nil { //nolint:gosec // a profile contains its secret
		return nil, fmt.Errorf("profile %s: %w", p.Name, err)
	}
	return escape(bytes.TrimSuffix(b.Bytes(), []byte("\n"))), nil
}

// escape escapes the characters that are literal in JSON and not in YAML.
func escape(text []byte) []byte {
	const del, nbsp, mark, none = 0x7f, 0xa0, 0xfeff, 0xfffe
	out := make([]byte, 0, len(text))
	for _, r := range string(text) {
		if del <= r && r < nbsp || r == mark || r&^1 == none {
			out = fmt.Appendf(out, `\u%04x`, r)
		} else {
			out = utf8.AppendRune(out, r)
		}
	}
	return out
}

// document returns the profile without fields that have their default.
func (p *Profile) document() document {
	d := document{
		Profile: p.Name, Client: p.Client, Secret: p.Secret.Reveal(), Gateway: p.Gateway,
		Server: omitDefault(p.Server, ServerKnockgw), Window: formatDuration(p.Window, protocol.DefaultWindow),
		Services: make([]docService, len(p.Services)),
	}
	for i := range p.Services {
		d.Services[i] = p.Services[i].document()
	}
	return d
}

func (s *Service) document() docService {
	d := docService{
		Name: s.Name, Address: s.Address,
		Mode: omitDefault(s.Mode, ModeKnockAuth), Method: omitDefault(s.Method, protocol.MethodUDP),
		KnockPort: omitDefault(s.KnockPort, client.DefaultKnockPort),
		Port:      omitDefault(s.Port, s.port()),
		Slot:      formatDuration(s.Slot, client.DefaultSlot),
	}

	a := docAuth{
		Protocol: omitDefault(s.Auth.Protocol, AuthV2), Hint: omitDefault(s.Auth.Hint, string(protocol.HintRoute)),
		Buckets: s.Auth.Buckets, Proof: s.Auth.Proof,
	}
	if slices.Equal(a.Buckets, protocol.DefaultBuckets()) {
		a.Buckets = nil
	}
	if a.Protocol != "" || a.Hint != "" || len(a.Buckets) > 0 || a.Proof {
		d.Auth = &a
	}

	q := docSequence{
		Length: omitDefault(s.Sequence.Length, client.DefaultSequenceLength), Gap: formatDuration(s.Sequence.Gap, client.DefaultSequenceGap),
		Slot: formatDuration(s.Sequence.Slot, client.DefaultSlot), Legacy: s.Sequence.Legacy,
	}
	if q != (docSequence{}) {
		d.Sequence = &q
	}
	return d
}

// omitDefault returns v, or the zero value if v is the default.
func omitDefault[T comparable](v, def T) T {
	var zero T
	if v == def {
		return zero
	}
	return v
}

// formatDuration returns d as text, or "" if d is the default or 0.
func formatDuration(d, def time.Duration) string {
	if d == def || d == 0 {
		return ""
	}
	return d.String()
}
