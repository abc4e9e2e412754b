package enroll

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/privatefile"
	"github.com/knockgw/knockgw/internal/strictyaml"
	"github.com/knockgw/knockgw/protocol"
)

// servicesKey is the key of a client's file with the services that it may use.
const servicesKey = "services"

// ErrServices says that a change of a client's services makes no sense.
var ErrServices = errors.New("services")

// Find is the client of that id, and where it stands.
func Find(c *config.Config, id string) (*config.Client, config.Position, error) {
	place, ok := c.Position(id)
	i := slices.IndexFunc(c.Clients, func(client config.Client) bool { return client.ID == id })
	if !ok || i < 0 {
		return nil, place, &NoClientError{ID: id}
	}
	return &c.Clients[i], place, nil
}

// NoClientError says that there is no client of that id.
type NoClientError struct{ ID string }

// Error says where to look.
func (e *NoClientError) Error() string {
	return fmt.Sprintf("there is no client %q; knockgw client list shows those that there are", e.ID)
}

// CurrentSecret is the secret that a client's profile has: the first that has
// not ended by now, which is the newest of those that rotation has made.
func CurrentSecret(c *config.Client, now time.Time) (protocol.Secret, error) {
	for _, s := range c.Secrets {
		if s.Until.IsZero() || s.Until.After(now) {
			return s.Secret, nil
		}
	}
	return nil, fmt.Errorf("all secrets of client %q have ended; give it a new one with knockgw client rotate", c.ID)
}

// SetServices changes the services that a client in clients_dir may use: to the
// named ones, or, where names begin with + or -, by adding and removing these.
// With none, it may use all. The file's comments and other keys stay.
func SetServices(path, id string, changes []string) (*Change, []string, error) {
	c, err := config.Load(path)
	if err != nil {
		return nil, nil, err
	}
	client, place, err := Find(c, id)
	if err != nil {
		return nil, nil, err
	}
	names, err := applyChanges(c, client, changes)
	if err != nil {
		return nil, nil, err
	}
	file := place.File
	if c.ClientsDir == "" || filepath.Dir(file) != c.ClientsDir {
		edit := "remove its key services"
		if names != nil {
			edit = "write services: [" + strings.Join(names, ", ") + "]"
		}
		return nil, nil, fmt.Errorf("client %q stands in the configuration itself, at %s; %s there, then run knockgw reload", id, place, edit)
	}

	old, err := privatefile.Read(file, maxFile)
	if err != nil {
		return nil, nil, err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(old, &doc); err != nil { // which config.Load did too
		return nil, nil, fmt.Errorf("read %s: %w", file, err)
	}
	setServices(strictyaml.Resolve(doc.Content[0]), names)
	var text bytes.Buffer
	e := yaml.NewEncoder(&text)
	e.SetIndent(indent)
	if err := errors.Join(e.Encode(&doc), e.Close()); err != nil {
		return nil, nil, fmt.Errorf("client %q: %w", id, err)
	}

	if err := privatefile.Write(file, text.Bytes(), true); err != nil {
		return nil, nil, fmt.Errorf("write the client's file: %w", err)
	}
	change, err := verify(path, &Change{File: file, undo: func() error { return privatefile.Write(file, old, true) }})
	return change, names, err
}

// applyChanges are the services of a client after changes; nil for all.
func applyChanges(c *config.Config, client *config.Client, changes []string) ([]string, error) {
	if len(changes) == 0 {
		return nil, nil
	}
	names := slices.Clone(client.Services)
	if client.Services == nil {
		for i := range c.Services {
			names = append(names, c.Services[i].Name)
		}
	}
	relative := 0
	var whole []string
	for _, change := range changes {
		add, isAdd := strings.CutPrefix(change, "+")
		remove, isRemove := strings.CutPrefix(change, "-")
		if err := checkService(c, strings.TrimLeft(change, "+-")); err != nil {
			return nil, err
		}
		switch at := slices.Index(names, remove); {
		case isAdd && !slices.Contains(names, add):
			names = append(names, add)
		case isRemove && at < 0:
			return nil, fmt.Errorf("%w: client %q may not use %s as it is; it may use %s", ErrServices, client.ID, remove, strings.Join(names, ", "))
		case isRemove:
			names = slices.Delete(names, at, at+1)
		case !isAdd && !slices.Contains(whole, change):
			whole = append(whole, change)
		}
		if isAdd || isRemove {
			relative++
		}
	}
	switch {
	case relative > 0 && len(whole) > 0:
		return nil, fmt.Errorf("%w: either name those that the client may use, or put + or - before each", ErrServices)
	case relative == 0:
		names = whole
	case client.Services == nil && len(names) == len(c.Services):
		return nil, nil // it may still use all of them, new ones too
	case len(names) == 0:
		return nil, fmt.Errorf("%w: client %q would be left without a service; remove it with knockgw client remove", ErrServices, client.ID)
	}
	return names, nil
}

// setServices writes the names into a client's mapping, or with nil removes the
// key. Elements that stay keep their comments.
func setServices(client *yaml.Node, names []string) {
	for i := 0; i+1 < len(client.Content); i += 2 {
		if client.Content[i].Value != servicesKey {
			continue
		}
		if names == nil {
			client.Content = slices.Delete(client.Content, i, i+2)
			return
		}
		old := strictyaml.Resolve(client.Content[i+1])
		list := &yaml.Node{Kind: yaml.SequenceNode, Style: old.Style,
			HeadComment: old.HeadComment, LineComment: old.LineComment, FootComment: old.FootComment}
		for _, name := range names {
			list.Content = append(list.Content, listElement(old, name))
		}
		client.Content[i+1] = list
		return
	}
	if names == nil {
		return
	}
	list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, name := range names {
		list.Content = append(list.Content, stringNode(name))
	}
	client.Content = append(client.Content, stringNode(servicesKey), list)
}

// listElement is the element of a list with that value, or a new one.
func listElement(list *yaml.Node, value string) *yaml.Node {
	for _, e := range list.Content {
		if strictyaml.Resolve(e).Value == value {
			return e
		}
	}
	return stringNode(value)
}
