package migrate

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// The configuration to write, with the keys that a server's file can determine.
type (
	document struct {
		Version  int
		TUN      tunDoc      `yaml:"tun"`
		Knock    *knockDoc   `yaml:",omitempty"`
		Clients  []clientDoc `yaml:",omitempty"`
		Services []serviceDoc
		Limits   *limitsDoc  `yaml:",omitempty,flow"`
		Ban      *banDoc     `yaml:",omitempty,flow"`
		State    stateDoc    `yaml:",flow"`
		Metrics  *metricsDoc `yaml:",omitempty,flow"`
	}
	tunDoc struct {
		Routes []string `yaml:",flow"`
	}
	knockDoc struct {
		UDPPort  uint16       `yaml:"udp_port,omitempty"`
		Window   string       `yaml:",omitempty"`
		Sequence *sequenceDoc `yaml:",omitempty,flow"`
	}
	sequenceDoc struct {
		Slot string
	}
	clientDoc struct {
		ID         string `yaml:"id"`
		SecretFile string `yaml:"secret_file,omitempty"`
		Secret     string `yaml:",omitempty"` // only for checking with the parser
		MaxFlows   int    `yaml:"max_flows,omitempty"`
	}
	serviceDoc struct {
		Name        string
		Listen      string
		Upstream    string
		Mode        string
		Visible     bool      `yaml:",omitempty"`
		Knock       []string  `yaml:",omitempty,flow"`
		Grant       *grantDoc `yaml:",omitempty,flow"`
		Session     string    `yaml:",omitempty"`
		Auth        *authDoc  `yaml:",omitempty,flow"`
		Port        uint16    `yaml:",omitempty"`
		Idle        string    `yaml:",omitempty"`
		DialTimeout string    `yaml:"dial_timeout,omitempty"`
	}
	grantDoc struct {
		TTL  string `yaml:"ttl,omitempty"`
		Uses int    `yaml:",omitempty"`
	}
	authDoc struct {
		Protocols []string `yaml:",omitempty,flow"`
		Hint      string   `yaml:",omitempty"`
		Buckets   []int    `yaml:",omitempty,flow"`
		Deadline  string   `yaml:",omitempty"`
	}
	limitsDoc struct {
		FlowsPerClient int `yaml:"flows_per_client,omitempty"`
		FlowsPerSource int `yaml:"flows_per_source,omitempty"`
		Flows          int `yaml:",omitempty"`
	}
	banDoc struct {
		For string
	}
	stateDoc struct {
		Dir string
	}
	metricsDoc struct {
		Listen string
	}
)

const indent = 2 // spaces, as in the documentation

// encode returns the document as text, with a comment that names the input.
func (d *document) encode(from string) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Converted from %s by knockgw migrate.\n", printable(filepath.Base(from)))
	e := yaml.NewEncoder(&b)
	e.SetIndent(indent)
	if err := e.Encode(d); err != nil {
		return nil, err
	}
	if err := e.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// printable replaces the characters of text that cannot be in a comment.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
}

// nonZero returns a pointer to a part of a document, or nil if the part is
// empty.
func nonZero[T comparable](part T) *T {
	var empty T
	if part == empty {
		return nil
	}
	return &part
}
