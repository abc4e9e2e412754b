package config

import (
	"net/netip"
	"runtime"
	"slices"
	"strings"

	"github.com/knockgw/knockgw/internal/address"
	"github.com/knockgw/knockgw/internal/strictyaml"
)

func (p *parser) parseService(i int, it strictyaml.Item) {
	s := p.NewSection(it.Node, it.Path, "name", "listen", "address", "upstream", "upstream_device", "mode", "visible", "knock",
		"grant", "session", "auth", "port", "idle", "dial_timeout")
	svc := Service{
		Mode:            ModeKnockAuth,
		Grant:           Grant{TTL: DefaultGrantTTL, Uses: DefaultGrantUses},
		SessionRequired: true,
		Auth: Auth{
			Protocols: []AuthProtocol{AuthV2, AuthV1},
			Hint:      HintRoute,
			Buckets:   bucketSizes(),
			Proof:     true,
			Deadline:  DefaultAuthDeadline,
		},
		Idle:        DefaultIdle,
		DialTimeout: DefaultDialTimeout,
	}

	p.parseName(s, i, &svc)
	p.parseAddresses(s, &svc)
	p.parseMode(s, &svc)
	p.parseMethods(s, &svc)

	grant := s.Sub("grant", "ttl", "uses")
	grant.Duration("ttl", &svc.Grant.TTL, minGrantTTL, maxGrantTTL)
	grant.Integer("uses", &svc.Grant.Uses, 1, maxUses)
	session := sessionRequired
	s.Choice("session", &session, sessionRequired, sessionOptional)
	svc.SessionRequired = session != sessionOptional
	auth := s.Sub("auth", "protocols", "hint", "buckets", "proof", "deadline")
	p.parseAuth(auth, &svc.Auth)
	s.Duration("idle", &svc.Idle, minIdle, maxIdle)
	s.Duration("dial_timeout", &svc.DialTimeout, minDial, maxDial)

	for _, key := range []string{"grant", "session"} {
		if s.Has(key) && !svc.Mode.Knocks() {
			s.Warn(s.At(key), s.Key(key), "has no effect in mode %s, which uses no knocks", svc.Mode)
		}
	}
	if s.Has("auth") && !svc.Mode.Authenticates() {
		s.Warn(s.At("auth"), s.Key("auth"), "has no effect in mode %s, which does not authenticate", svc.Mode)
	}
	p.c.Services = append(p.c.Services, svc)
	p.services = append(p.services, serviceSource{s, auth})
}

func (p *parser) parseName(s *strictyaml.Section, i int, svc *Service) {
	if !s.Text("name", &svc.Name) {
		if s.Missing("name") {
			s.FailKey("name", "is missing; name the service, as in name: service-%d", i+1)
		}
		return
	}
	bad := strings.ContainsFunc(svc.Name, func(r rune) bool {
		return r > '~' || !address.IsNameByte(byte(r)) && r != '.' // ASCII only
	})
	if bad || len(svc.Name) > maxName {
		s.FailKey("name", "%q is not a name; use 1 to %d letters, digits, -, _ and .", svc.Name, maxName)
	}
}

// parseAddresses reads the listen address, the port in MACs, and the upstream.
func (p *parser) parseAddresses(s *strictyaml.Section, svc *Service) {
	var text string
	if s.Text("listen", &text) {
		var err error
		if svc.Listen, svc.Port, err = parseListen(text); err != nil {
			s.FailKey("listen", "%q: %v", text, err)
			svc.Listen = netip.Prefix{} // not valid, so that the checks skip it
		}
	} else if s.Missing("listen") {
		s.FailKey("listen", "is missing; write the address and port that clients dial, such as 10.77.0.1:22")
	}

	if s.Text("address", &text) {
		host, port, err := address.ParseDial(text, exampleListenPort)
		if err != nil {
			s.FailKey("address", "%q: %v", text, err)
		} else {
			svc.Address = address.Join(host, port)
		}
	}

	svc.MACPort = svc.Port
	s.Port("port", &svc.MACPort)

	if s.Text("upstream", &text) {
		var err error
		example := svc.Port
		if example == 0 {
			example = exampleListenPort
		}
		if svc.Upstream, err = parseUpstream(text, example); err != nil {
			s.FailKey("upstream", "%q: %v", text, err)
		}
	} else if s.Missing("upstream") && !p.options.noUpstream {
		s.FailKey("upstream", "is missing; write the address of the service itself, such as 10.0.2.2:22")
	}

	if s.Text("upstream_device", &svc.UpstreamDevice) {
		checkDevice(s, "upstream_device", svc.UpstreamDevice)
		switch {
		case runtime.GOOS != "linux":
			s.FailKey("upstream_device", "needs Linux; remove it")
		case !s.Has("upstream"):
			s.FailKey("upstream_device", "there is no upstream; remove it")
		case svc.UpstreamDevice == p.c.TUN.Name:
			s.FailKey("upstream_device", "%q is the gateway's own device; name the interface that leads to the upstream", svc.UpstreamDevice)
		}
	}
}

func (p *parser) parseMode(s *strictyaml.Section, svc *Service) {
	text := string(ModeKnockAuth)
	if s.Text("mode", &text) {
		name, ok := modeNames()[text]
		if !ok {
			s.FailKey("mode", "%q is not a mode; write auth, knock or knock-auth", text)
		} else {
			svc.Mode, svc.Visible = name.mode, name.visible
		}
	}
	alias := svc.Visible
	s.Boolean("visible", &svc.Visible)
	switch {
	case svc.Visible && svc.Mode == ModeAuth:
		s.FailKey("visible", "mode auth answers every host already; remove visible")
	case svc.Visible && svc.Mode == ModeKnock:
		s.FailKey("visible", "mode knock cannot be visible, since every host could connect; remove it, or write mode: knock-auth")
	case alias && !svc.Visible:
		s.FailKey("visible", "mode %s is visible; write mode: knock-auth for one that is not", text)
	}
}

func (p *parser) parseMethods(s *strictyaml.Section, svc *Service) {
	switch {
	case !svc.Mode.Knocks() && s.Has("knock"):
		s.FailKey("knock", "mode auth uses no knocks; remove it, or write mode: knock-auth")
		return
	case !svc.Mode.Knocks():
		return
	case !s.Has("knock"):
		svc.Knock = allMethods()
		return
	}
	s.Texts("knock", "name a method, or remove the key for all five", func(it strictyaml.Item, text string) {
		m, ok := parseMethod(text)
		if !ok {
			s.Fail(it.Node, it.Path, "%q is not a knock method; write udp, udp-seq, tcp-syn, tcp-syn-seq or udp-v2", text)
		} else if !slices.Contains(svc.Knock, m) {
			svc.Knock = append(svc.Knock, m)
		}
	})
}

func (p *parser) parseAuth(s *strictyaml.Section, a *Auth) {
	if s.Has("protocols") {
		a.Protocols = nil
		s.Texts("protocols", "name v2, v1 or both", func(it strictyaml.Item, text string) {
			proto := AuthProtocol(text)
			if proto != AuthV1 && proto != AuthV2 {
				s.Fail(it.Node, it.Path, "%q is not a protocol; write v2 or v1", text)
			} else if !slices.Contains(a.Protocols, proto) {
				a.Protocols = append(a.Protocols, proto)
			}
		})
	}
	hint := string(a.Hint)
	s.Choice("hint", &hint, string(HintRoute), string(HintNone))
	a.Hint = Hint(hint)
	s.Integers("buckets", &a.Buckets, bucketSizes())
	s.Boolean("proof", &a.Proof)
	s.Duration("deadline", &a.Deadline, minDeadline, maxDeadline)
}
