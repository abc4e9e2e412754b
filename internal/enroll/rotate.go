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

// Rotate gives a client a new secret beside those that it has, which end at until; with until zero, at once.
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
	if err := yaml.Unmarshal(old, &doc); err != nil { // which config.Load did too
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

// rotate puts the new secret in front of those of a client's mapping, and an end on these. Those that have ended by
// now are left out, so that a client can be given new ones for ever.
func rotate(client *yaml.Node, secret protocol.Secret, secrets []config.ClientSecret, until, now time.Time) {
	list := &yaml.Node{Kind: yaml.SequenceNode}
	list.Content = append(list.Content, singleKeyNode("secret", stringNode(secret.Reveal())))
	for i, e := range secretNodes(client) {
		if i < len(secrets) && expired(secrets[i], now) {
			continue
		}
		if i >= len(secrets) || !until.IsZero() && expired(secrets[i], until) {
			list.Content = append(list.Content, e) // it ends before that by itself
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

func expired(s config.ClientSecret, until time.Time) bool {
	return !s.Until.IsZero() && s.Until.Before(until)
}

// secretNodes are the secrets that a client's mapping has, each as an element of the list secrets.
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

// singleKeyNode is a mapping of one key.
func singleKeyNode(key string, value *yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{stringNode(key), value}}
}

func stringNode(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }

// setKey gives a key of a mapping a value.
func setKey(mapping *yaml.Node, key string, value *yaml.Node) {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			mapping.Content[i+1] = value
			return
		}
	}
	mapping.Content = append(mapping.Content, stringNode(key), value)
}
