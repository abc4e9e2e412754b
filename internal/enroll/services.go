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

// servicesKey is the key for the services of a client.
const servicesKey = "services"

// ErrServices reports an invalid change of a client's services.
var ErrServices = errors.New("services")

// Find returns the client with that id, and its position.
func Find(c *config.Config, id string) (*config.Client, config.Position, error) {
	place, ok := c.Position(id)
	i := slices.IndexFunc(c.Clients, func(client config.Client) bool { return client.ID == id })
	if !ok || i < 0 {
		return nil, place, &NoClientError{ID: id}
	}
	return &c.Clients[i], place, nil
}

// NoClientError reports that there is no client with that id.
type NoClientError struct{ ID string }

// Error says how to list the clients.
func (e *NoClientError) Error() string {
	return fmt.Sprintf("there is no client %q; knockgw client list shows all clients", e.ID)
}

// CurrentSecret returns the secret for a client's profile: the first that has
// not expired by now, which after rotations is the newest.
func CurrentSecret(c *config.Client, now time.Time) (protocol.Secret, error) {
	for _, s := range c.Secrets {
		if s.Until.IsZero() || s.Until.After(now) {
			return s.Secret, nil
		}
	}
	return nil, fmt.Errorf("all secrets of client %q have expired; give it a new one with knockgw client rotate", c.ID)
}

// SetServices changes the services that a client in clients_dir may use: to the
// listed ones, or by adding and removing those that begin with + or -. An empty
// list allows all services. Comments and other keys of the file are kept. It
// returns the names, nil for all.
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
		return nil, nil, fmt.Errorf("client %q is in the configuration file, at %s; %s there, then run knockgw reload", id, place, edit)
	}

	old, err := privatefile.Read(file, maxFile)
	if err != nil {
		return nil, nil, err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(old, &doc); err != nil { // config.Load has parsed it
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

// applyChanges returns the services of a client after changes; nil for all.
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
			return nil, fmt.Errorf("%w: client %q may not use %s now; it may use %s",
				ErrServices, client.ID, remove, strings.Join(names, ", "))
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
		return nil, fmt.Errorf("%w: either list the services that the client may use, or write + or - before each", ErrServices)
	case relative == 0:
		names = whole
	case client.Services == nil && len(names) == len(c.Services):
		return nil, nil // still all services, including later ones
	case len(names) == 0:
		return nil, fmt.Errorf("%w: client %q would be left without a service; remove it with knockgw client remove",
			ErrServices, client.ID)
	}
	return names, nil
}

// setServices sets the services in a client's mapping, or removes the key if
// names is nil. Elements that stay keep their comments.
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

// listElement returns the element of a list with that value, or a new one.
func listElement(list *yaml.Node, value string) *yaml.Node {
	for _, e := range list.Content {
		if strictyaml.Resolve(e).Value == value {
			return e
		}
	}
	return stringNode(value)
}
