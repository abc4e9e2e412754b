package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/knockgw/knockgw/internal/strictyaml"
	"github.com/knockgw/knockgw/protocol"
)

// clientFile is a file with clients: the configuration itself, or a client file.
type clientFile struct {
	*strictyaml.Report
	base string // directory of its relative paths
}

func (p *parser) parseClient(in clientFile, i int, it strictyaml.Item) {
	s := in.NewSection(it.Node, it.Path, "id", "secret", "secret_file", "secrets", "services",
		"expires", "hours", "max_grants", "max_flows", "profile")
	c := Client{}
	src := clientSource{Section: s, base: in.base}
	if s.Text("id", &c.ID) {
		if len(c.ID) > protocol.MaxClientID || strings.ContainsRune(c.ID, 0) {
			s.FailKey("id", "must be 1 to %d bytes without NUL; choose a shorter one", protocol.MaxClientID)
		}
	} else if s.Missing("id") {
		s.FailKey("id", "is missing; name the client, such as id: client-%d", i+1)
	}

	p.parseSecrets(&src, &c)
	s.Texts("services", "remove the key for all services", func(it strictyaml.Item, text string) {
		c.Services = append(c.Services, text)
		src.grants = append(src.grants, it)
	})
	if timestamp(s, "expires", &c.Expires) && !c.Expires.After(p.options.now) {
		s.Warn(s.At("expires"), s.Key("expires"), "client %q expired at %s and is locked out; remove it, or give a later date",
			c.ID, c.Expires.Format(time.RFC3339))
	}

	if s.Has("hours") {
		c.Hours = p.parseHours(s.Sub("hours", "days", "from", "to", "zone"))
	}
	s.Integer("max_grants", &c.MaxGrants, 1, maxShare)
	s.Integer("max_flows", &c.MaxFlows, 1, maxShare)
	if s.Has("profile") {
		parseClientProfile(s.Sub("profile", "name", "method"), &c.Profile)
	}
	p.clients = append(p.clients, src)
	p.c.Clients = append(p.c.Clients, c)
}

// maxProfileName is the longest name of a profile, in bytes.
const maxProfileName = 64

// parseClientProfile reads the options of the client's profile. Package profile
// checks them further.
func parseClientProfile(s *strictyaml.Section, to *ClientProfile) {
	if s.Text("name", &to.Name) && len(to.Name) > maxProfileName {
		s.FailKey("name", "must be 1 to %d letters, digits, '.', '_' and '-'; choose another, or remove the key", maxProfileName)
	}
	var method string
	if !s.Text("method", &method) {
		return
	}
	var err error
	if to.Method, err = protocol.ParseMethod(method); err != nil || to.Method == protocol.MethodTCPAuth {
		s.FailKey("method", "%q is not a knock method; choose udp, udp-v2, udp-seq, tcp-syn or tcp-syn-seq, or remove the key", method)
	}
}

// parseSecrets reads the secret of a client, or its secrets during a rotation.
func (p *parser) parseSecrets(src *clientSource, c *Client) {
	s := src.Section
	if !s.Has("secrets") {
		p.parseSecret(src, c, s, time.Time{})
		return
	}
	for _, key := range []string{"secret", "secret_file"} {
		if s.Has(key) {
			s.FailKey(key, "secrets is given too; move this one into its list, or remove it")
		}
	}

	list := s.List("secrets", "name a secret, as in secrets: [{secret_file: client.key}]")
	if len(list) > maxSecrets {
		s.FailKey("secrets", "has %d secrets, and a client at most %d; remove those that are no longer used", len(list), maxSecrets)
		return
	}
	expired := 0
	for _, it := range list {
		e := s.NewSection(it.Node, it.Path, "secret", "secret_file", "until")
		var until time.Time
		if timestamp(e, "until", &until) && !until.After(p.options.now) {
			expired++
			e.Warn(e.At("until"), e.Key("until"), "the secret expired at %s; remove it, or give a later date",
				until.Format(time.RFC3339))
		}
		p.parseSecret(src, c, e, until)
	}
	if expired > 0 && expired == len(list) {
		s.Warn(s.At("secrets"), s.Key("secrets"), "all of them have expired, so client %q is locked out; "+
			"add a new one, or remove the client", c.ID)
	}
}

// parseSecret reads secret or secret_file of a section, which is a client or an
// element of its secrets.
func (p *parser) parseSecret(src *clientSource, c *Client, s *strictyaml.Section, until time.Time) {
	var text, key string
	var secret Secret
	var err error
	switch {
	case s.Has("secret") && s.Has("secret_file"):
		s.FailKey("secret", "secret_file is given too; remove one of them")
	case s.Text("secret", &text):
		p.c.inlineSecrets = p.c.inlineSecrets || src.File() == p.File()
		key = "secret"
		secret, err = protocol.ParseSecret(text)
	case s.Text("secret_file", &text):
		key = "secret_file"
		secret, err = readSecretFile(src.base, text)
	case s.Missing("secret") && s.Missing("secret_file"):
		s.Fail(s.Node, s.Path, "secret_file is missing; make the file with knockgw keygen and name it")
	}

	switch {
	case key == "":
	case err != nil:
		s.FailKey(key, "%v", err)
	default:
		c.Secrets = append(c.Secrets, ClientSecret{Secret: secret, Until: until})
		src.secrets = append(src.secrets, strictyaml.Item{Node: s.At(key), Path: s.Key(key)})
	}
}

// parseHours reads when a client may start connections. A missing key restricts
// nothing.
func (p *parser) parseHours(s *strictyaml.Section) *Hours {
	h := &Hours{Days: allDays, To: minutesOfDay, Zone: time.UTC}
	if s.Has("days") {
		h.Days = 0
		s.Texts("days", "name one, or remove the key for every day", func(it strictyaml.Item, text string) {
			i := slices.Index(dayNames(), text)
			if i < 0 {
				s.Fail(it.Node, it.Path, "%q is not a day; write mon, tue, wed, thu, fri, sat or sun", text)
				return
			}
			h.Days |= DaysOf(weekday(i))
		})
	}

	before := p.Failures()
	timeOfDay(s, "from", &h.From)
	timeOfDay(s, "to", &h.To)
	switch {
	case p.Failures() > before:
	case h.From == minutesOfDay:
		s.FailKey("from", "24:00 is the end of a day; write 00:00 for its start")
	case h.To == 0 && h.From == 0:
		s.FailKey("to", "00:00 is the start of the day; write 24:00 for its end, or remove from and to for the whole day")
	case h.To == h.From:
		s.FailKey("to", "is the same as from; write a later time, or remove both for the whole day")
	case h.To == 0:
		h.To = minutesOfDay // the end of the day before
	}

	var zone string
	if s.Text("zone", &zone) {
		var err error
		if h.Zone, err = p.zone(zone); err != nil {
			s.FailKey("zone", "%v", err)
		}
	}
	if h.isUnrestricted() && !s.Broken {
		s.Warn(s.Node, s.Path, "has no effect: it includes every time of the week; name days, or from and to")
	}
	return h
}

// timeOfDay reads a time of day in minutes.
func timeOfDay(s *strictyaml.Section, name string, to *int) {
	var text string
	if !s.Text(name, &text) {
		return
	}
	minute, err := parseTimeOfDay(text)
	if err != nil {
		s.FailKey(name, "%v", err)
		return
	}
	*to = minute
}

// localZone is the name of the host's zone in package time.
const localZone = "Local"

// zone returns a time zone of the system. Each is loaded once for all clients.
func (p *parser) zone(name string) (*time.Location, error) {
	if z := p.zones[name]; z != nil {
		return z, nil
	}
	if name == localZone {
		return nil, errors.New("the zone of the host may change independently of this file; name it, such as Europe/Berlin")
	}
	z, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("%q is not a time zone of this system (%w); write one such as Europe/Berlin, "+
			"or install the system's time zones (tzdata)", name, err)
	}
	if p.zones == nil {
		p.zones = map[string]*time.Location{}
	}
	p.zones[name] = z
	return z, nil
}
