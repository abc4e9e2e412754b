package config

import (
	"strings"
	"time"

	"github.com/knockgw/knockgw/protocol"
)

func (p *parser) parseClient(i int, it item) {
	s := p.newSection(it.node, it.path, "id", "secret", "secret_file", "secrets", "services")
	c := Client{}
	src := clientSource{section: s}
	if s.text("id", &c.ID) {
		if len(c.ID) > protocol.MaxClientID || strings.ContainsRune(c.ID, 0) {
			s.failKey("id", "must be 1 to %d bytes without NUL; choose a shorter one", protocol.MaxClientID)
		}
	} else if s.lacks("id") {
		s.failKey("id", "is missing; name the client, as in id: client-%d", i+1)
	}
	p.parseSecrets(&src, &c)
	s.texts("services", "remove the key for all services", func(it item, text string) {
		c.Services = append(c.Services, text)
		src.grants = append(src.grants, it)
	})
	p.clients = append(p.clients, src)
	p.c.Clients = append(p.c.Clients, c)
}

// parseSecrets reads the one secret of a client, or those that it has while they are being changed.
func (p *parser) parseSecrets(src *clientSource, c *Client) {
	s := src.section
	if !s.has("secrets") {
		p.parseSecret(src, c, s, time.Time{})
		return
	}
	for _, key := range []string{"secret", "secret_file"} {
		if s.has(key) {
			s.failKey(key, "secrets is given too; move this one into its list, or remove it")
		}
	}
	list := s.list("secrets", "name a secret, as in secrets: [{secret_file: client.key}]")
	if len(list) > maxSecrets {
		s.failKey("secrets", "has %d secrets, and a client at most %d; remove those that nobody uses any more", len(list), maxSecrets)
		return
	}
	passed := 0
	for _, it := range list {
		e := p.newSection(it.node, it.path, "secret", "secret_file", "until")
		var until time.Time
		if e.instant("until", &until) && !until.After(p.options.now) {
			passed++
			e.warn(e.at("until"), e.key("until"), "the secret ended at %s and opens nothing; remove it, or give a later date",
				until.Format(time.RFC3339))
		}
		p.parseSecret(src, c, e, until)
	}
	if passed > 0 && passed == len(list) {
		s.warn(s.at("secrets"), s.key("secrets"), "all of them have ended, so client %q is locked out; "+
			"add a new one, or remove the client", c.ID)
	}
}

// parseSecret reads secret or secret_file of a section: a client, or an element of its secrets.
func (p *parser) parseSecret(src *clientSource, c *Client, s *section, until time.Time) {
	var text, key string
	var secret Secret
	var err error
	switch {
	case s.has("secret") && s.has("secret_file"):
		s.failKey("secret", "secret_file is given too; remove one of them")
	case s.text("secret", &text):
		p.c.inlineSecrets = true
		key = "secret"
		secret, err = parseSecret(text)
	case s.text("secret_file", &text):
		key = "secret_file"
		secret, err = readSecretFile(p.base, text)
	case s.lacks("secret") && s.lacks("secret_file"):
		s.fail(s.node, s.path, "secret_file is missing; make the file with knockgw keygen and name it")
	}
	switch {
	case key == "":
	case err != nil:
		s.failKey(key, "%v", err)
	default:
		c.Secrets = append(c.Secrets, ClientSecret{Secret: secret, Until: until})
		src.secrets = append(src.secrets, item{s.at(key), s.key(key)})
	}
}
