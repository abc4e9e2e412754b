package enroll

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/privatefile"
	"github.com/knockgw/knockgw/internal/strictyaml"
	"github.com/knockgw/knockgw/protocol"
)

const indent = 2 // spaces, as in the documentation

// Rotate adds a new secret to a client. Its other secrets expire at until, or
// are removed if until is zero.
func Rotate(path, id string, secret protocol.Secret, until time.Time) (*Change, error) {
	c, file, err := clientFile(path, id)
	if err != nil {
		return nil, err
	}
	old, err := privatefile.Read(file, maxFile)
	if err != nil {
		return nil, err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(old, &doc); err != nil { // config.Load has parsed it
		return nil, fmt.Errorf("read %s: %w", file, err)
	}

	var secrets []config.ClientSecret
	for i := range c.Clients {
		if c.Clients[i].ID == id {
			secrets = c.Clients[i].Secrets
		}
	}
	rotate(doc.Content[0], secret, secrets, until, time.Now())

	var text bytes.Buffer
	e := yaml.NewEncoder(&text)
	e.SetIndent(indent)
	if err := errors.Join(e.Encode(&doc), e.Close()); err != nil {
		return nil, fmt.Errorf("client %q: %w", id, err)
	}
	if err := privatefile.Write(file, text.Bytes(), true); err != nil {
		return nil, fmt.Errorf("write the client's file: %w", err)
	}
	return verify(path, &Change{File: file, undo: func() error { return privatefile.Write(file, old, true) }})
}

// rotate inserts the new secret before those in a client's mapping, and sets
// the expiry of these. Secrets that have expired by now are removed, so that
// rotation can be repeated forever.
func rotate(client *yaml.Node, secret protocol.Secret, secrets []config.ClientSecret, until, now time.Time) {
	list := &yaml.Node{Kind: yaml.SequenceNode}
	list.Content = append(list.Content, singleKeyNode("secret", stringNode(secret.Reveal())))
	for i, e := range secretNodes(client) {
		if i < len(secrets) && expired(secrets[i], now) {
			continue
		}
		if i >= len(secrets) || !until.IsZero() && expired(secrets[i], until) {
			list.Content = append(list.Content, e) // expires earlier anyway
		} else if !until.IsZero() {
			setKey(e, "until", &yaml.Node{Kind: yaml.ScalarNode, Value: until.UTC().Format(time.RFC3339)})
			list.Content = append(list.Content, e)
		}
	}
	for i := 0; i+1 < len(client.Content); i += 2 {
		switch client.Content[i].Value {
		case "secret", "secret_file", "secrets":
			client.Content[i] = stringNode("secrets")
			client.Content[i+1] = list
			return
		}
	}
}

// expired reports whether a secret has expired by a time.
func expired(s config.ClientSecret, until time.Time) bool {
	return !s.Until.IsZero() && s.Until.Before(until)
}

// secretNodes returns the secrets in a client's mapping, each as an element of
// the list secrets.
func secretNodes(client *yaml.Node) []*yaml.Node {
	for i := 0; i+1 < len(client.Content); i += 2 {
		switch key, value := client.Content[i].Value, client.Content[i+1]; key {
		case "secrets":
			return strictyaml.Resolve(value).Content
		case "secret", "secret_file":
			return []*yaml.Node{singleKeyNode(key, value)}
		}
	}
	return nil
}

// singleKeyNode returns a mapping with one key.
func singleKeyNode(key string, value *yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{stringNode(key), value}}
}

// stringNode returns a scalar node.
func stringNode(s string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
}

// setKey sets a key of a mapping.
func setKey(mapping *yaml.Node, key string, value *yaml.Node) {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			mapping.Content[i+1] = value
			return
		}
	}
	mapping.Content = append(mapping.Content, stringNode(key), value)
}
