package config

import (
	"net/netip"
	"runtime"
	"slices"
	"strings"
)

func (p *parser) parseService(i int, it item) {
	s := p.newSection(it.node, it.path, "name", "listen", "upstream", "upstream_device", "mode", "visible", "knock",
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

	grant := s.sub("grant", "ttl", "uses")
	grant.duration("ttl", &svc.Grant.TTL, minGrantTTL, maxGrantTTL)
	grant.integer("uses", &svc.Grant.Uses, 1, maxUses)
	session := sessionRequired
	if s.text("session", &session) && session != sessionRequired && session != sessionOptional {
		s.failKey("session", "%q is not known; write %s or %s", session, sessionRequired, sessionOptional)
	}
	svc.SessionRequired = session != sessionOptional
	auth := s.sub("auth", "protocols", "hint", "buckets", "proof", "deadline")
	p.parseAuth(auth, &svc.Auth)
	s.duration("idle", &svc.Idle, minIdle, maxIdle)
	s.duration("dial_timeout", &svc.DialTimeout, minDial, maxDial)

	for _, key := range []string{"grant", "session"} {
		if s.has(key) && !svc.Mode.Knocks() {
			s.warn(s.at(key), s.key(key), "has no effect in mode %s, which takes no knocks", svc.Mode)
		}
	}
	if s.has("auth") && !svc.Mode.Authenticates() {
		s.warn(s.at("auth"), s.key("auth"), "has no effect in mode %s, which does not authenticate", svc.Mode)
	}
	p.c.Services = append(p.c.Services, svc)
	p.services = append(p.services, serviceSource{s, auth})
}

func (p *parser) parseName(s *section, i int, svc *Service) {
	if !s.text("name", &svc.Name) {
		if s.lacks("name") {
			s.failKey("name", "is missing; name the service, as in name: service-%d", i+1)
		}
		return
	}
	bad := strings.ContainsFunc(svc.Name, func(r rune) bool {
		return r > '~' || !isWord(byte(r)) && r != '.' // in ASCII
	})
	if bad || len(svc.Name) > maxName {
		s.failKey("name", "%q is not a name; use 1 to %d letters, digits, -, _ and .", svc.Name, maxName)
	}
}

// parseAddresses reads where the service listens, what its clients seal, and where its flows go.
func (p *parser) parseAddresses(s *section, svc *Service) {
	var text string
	if s.text("listen", &text) {
		var err error
		if svc.Listen, svc.Port, err = parseListen(text); err != nil {
			s.failKey("listen", "%q: %v", text, err)
			svc.Listen = netip.Prefix{} // not valid: the checks pass over it
		}
	} else if s.lacks("listen") {
		s.failKey("listen", "is missing; write the address and port that clients dial, as 10.77.0.1:22")
	}
	svc.MACPort = svc.Port
	s.port("port", &svc.MACPort)
	if s.text("upstream", &text) {
		var err error
		example := svc.Port
		if example == 0 {
			example = exampleListenPort
		}
		if svc.Upstream, err = parseUpstream(text, example); err != nil {
			s.failKey("upstream", "%q: %v", text, err)
		}
	} else if s.lacks("upstream") && !p.options.noUpstream {
		s.failKey("upstream", "is missing; write where the service really is, as 10.0.2.2:22")
	}
	if s.text("upstream_device", &svc.UpstreamDevice) {
		checkDevice(s, "upstream_device", svc.UpstreamDevice)
		switch {
		case runtime.GOOS != "linux":
			s.failKey("upstream_device", "needs Linux; remove it")
		case !s.has("upstream"):
			s.failKey("upstream_device", "there is no upstream; remove it")
		case svc.UpstreamDevice == p.c.TUN.Name:
			s.failKey("upstream_device", "%q is the gateway's own device; name the one that leads to the upstream", svc.UpstreamDevice)
		}
	}
}

func (p *parser) parseMode(s *section, svc *Service) {
	text := string(ModeKnockAuth)
	if s.text("mode", &text) {
		name, ok := modeNames()[text]
		if !ok {
			s.failKey("mode", "%q is not a mode; write auth, knock or knock-auth", text)
		} else {
			svc.Mode, svc.Visible = name.mode, name.visible
		}
	}
	alias := svc.Visible
	s.boolean("visible", &svc.Visible)
	switch {
	case svc.Visible && svc.Mode == ModeAuth:
		s.failKey("visible", "mode auth answers everybody as it is; remove visible")
	case svc.Visible && svc.Mode == ModeKnock:
		s.failKey("visible", "mode knock cannot be visible: nothing would keep strangers out; remove it, or write mode: knock-auth")
	case alias && !svc.Visible:
		s.failKey("visible", "mode %s is visible; write mode: knock-auth for one that is not", text)
	}
}

func (p *parser) parseMethods(s *section, svc *Service) {
	switch {
	case !svc.Mode.Knocks() && s.has("knock"):
		s.failKey("knock", "mode auth takes no knocks; remove it, or write mode: knock-auth")
		return
	case !svc.Mode.Knocks():
		return
	case !s.has("knock"):
		svc.Knock = allMethods()
		return
	}
	s.texts("knock", "name a method, or remove the key for all five", func(it item, text string) {
		m, ok := parseMethod(text)
		if !ok {
			s.fail(it.node, it.path, "%q is not a knock method; write udp, udp-seq, tcp-syn, tcp-syn-seq or udp-v2", text)
		} else if !slices.Contains(svc.Knock, m) {
			svc.Knock = append(svc.Knock, m)
		}
	})
}

func (p *parser) parseAuth(s *section, a *Auth) {
	if s.has("protocols") {
		a.Protocols = nil
		s.texts("protocols", "name v2, v1 or both", func(it item, text string) {
			proto := AuthProtocol(text)
			if proto != AuthV1 && proto != AuthV2 {
				s.fail(it.node, it.path, "%q is not a protocol; write v2 or v1", text)
			} else if !slices.Contains(a.Protocols, proto) {
				a.Protocols = append(a.Protocols, proto)
			}
		})
	}
	hint := string(a.Hint)
	if s.text("hint", &hint) && hint != string(HintRoute) && hint != string(HintNone) {
		s.failKey("hint", "%q is not a hint mode; write %s or %s", hint, HintRoute, HintNone)
	}
	a.Hint = Hint(hint)
	if s.has("buckets") {
		a.Buckets = nil
		for _, it := range s.list("buckets", "name sizes, or remove the key for all five") {
			size, ok := s.integerOf(it.node, it.path)
			switch {
			case !ok:
			case !slices.Contains(bucketSizes(), size):
				s.fail(it.node, it.path, "%d is not a bucket; write 128, 192, 256, 384 or 512", size)
			case !slices.Contains(a.Buckets, size):
				a.Buckets = append(a.Buckets, size)
			}
		}
		slices.Sort(a.Buckets)
	}
	s.boolean("proof", &a.Proof)
	s.duration("deadline", &a.Deadline, minDeadline, maxDeadline)
}
