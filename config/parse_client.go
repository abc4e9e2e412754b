package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/knockgw/knockgw/protocol"
)

func (p *parser) parseClient(i int, it item) {
	s := p.newSection(it.node, it.path, "id", "secret", "secret_file", "secrets", "services",
		"expires", "hours", "max_grants", "max_flows")
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
	if s.instant("expires", &c.Expires) && !c.Expires.After(p.options.now) {
		s.warn(s.at("expires"), s.key("expires"), "client %q expired at %s and is locked out; remove it, or give a later date",
			c.ID, c.Expires.Format(time.RFC3339))
	}
	if s.has("hours") {
		c.Hours = p.parseHours(s.sub("hours", "days", "from", "to", "zone"))
	}
	s.integer("max_grants", &c.MaxGrants, 1, maxShare)
	s.integer("max_flows", &c.MaxFlows, 1, maxShare)
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
		secret, err = protocol.ParseSecret(text)
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

// parseHours reads when a client may begin. What is absent leaves nothing out.
func (p *parser) parseHours(s *section) *Hours {
	h := &Hours{Days: everyDay, To: minutesOfDay, Zone: time.UTC}
	if s.has("days") {
		h.Days = 0
		s.texts("days", "name one, or remove the key for every day", func(it item, text string) {
			i := slices.Index(dayNames(), text)
			if i < 0 {
				s.fail(it.node, it.path, "%q is not a day; write mon, tue, wed, thu, fri, sat or sun", text)
				return
			}
			h.Days |= DaysOf(weekday(i))
		})
	}
	before := len(p.errs)
	timeOfDay(s, "from", &h.From)
	timeOfDay(s, "to", &h.To)
	switch {
	case len(p.errs) > before:
	case h.From == minutesOfDay:
		s.failKey("from", "24:00 is the end of a day, where nothing begins; write 00:00")
	case h.To == 0 && h.From == 0:
		s.failKey("to", "00:00 is the beginning of the day; write 24:00 for its end, or remove from and to for the whole day")
	case h.To == h.From:
		s.failKey("to", "is the same as from; write a later time, or remove both for the whole day")
	case h.To == 0:
		h.To = minutesOfDay // which is when it is
	}
	var zone string
	if s.text("zone", &zone) {
		var err error
		if h.Zone, err = p.zone(zone); err != nil {
			s.failKey("zone", "%v", err)
		}
	}
	if h.always() && !s.broken {
		s.warn(s.node, s.path, "has no effect: no time of the week is left out; name days, or from and to")
	}
	return h
}

// timeOfDay reads a time of day in minutes.
func timeOfDay(s *section, name string, to *int) {
	var text string
	if !s.text(name, &text) {
		return
	}
	minute, err := parseTimeOfDay(text)
	if err != nil {
		s.failKey(name, "%v", err)
		return
	}
	*to = minute
}

// localZone is what package time calls the zone of the host.
const localZone = "Local"

// zone finds a time zone among those of the system; each is read once for all clients.
func (p *parser) zone(name string) (*time.Location, error) {
	if z := p.zones[name]; z != nil {
		return z, nil
	}
	if name == localZone {
		return nil, errors.New("the zone of the host may change without this file; name it, as in Europe/Berlin")
	}
	z, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("%q is not a time zone that this system knows (%w); write one as Europe/Berlin, "+
			"or install the system's time zones (tzdata)", name, err)
	}
	if p.zones == nil {
		p.zones = map[string]*time.Location{}
	}
	p.zones[name] = z
	return z, nil
}
