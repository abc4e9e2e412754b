package migrate

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// The configuration as it is written: no more of it than a server's file can
// ask for.
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
		Secret     string `yaml:",omitempty"` // only to have the whole parsed
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

// encode is the document's text, under a line that says where it comes from.
func (d *document) encode(from string) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Made of %s by knockgw migrate.\n", printable(filepath.Base(from)))
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

// printable is text that can stand in a comment.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
}

// nonZero is a part of a document, or nil if there is nothing in it.
func nonZero[T comparable](part T) *T {
	var empty T
	if part == empty {
		return nil
	}
	return &part
}
