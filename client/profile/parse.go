package profile

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/internal/address"
	"github.com/knockgw/knockgw/internal/strictyaml"
	"github.com/knockgw/knockgw/protocol"
)

// Error is one mistake in a profile: the file, the line, the key, and what to write instead. It never has
// the secret in it.
type Error = strictyaml.Error

// The limits, and why each is where it is.
const (
	version = 1 // of the format

	maxFile     = 64 << 10 // bytes; more is the wrong file
	maxServices = 64       // more are not looked through by a person
	maxName     = 64       // bytes: a file name, and a word on command lines

	// Those of the gateway's own configuration, which a profile must fit.
	minTime     = time.Second
	maxTime     = 5 * time.Minute
	minSequence = 2
	maxSequence = 8
	maxSYNParts = 5

	minGap = time.Millisecond // none at all stands for the default
	maxGap = 5 * time.Second  // gateways give a whole sequence no more

	defaultWindow = 30 * time.Second // docs/wire-formats.md, Conventions
	examplePort   = 22               // in remedies
)

// Parse reads a profile's file, of at most 64 KiB of YAML in which nothing is ignored. Its name is for
// errors: *Errors, all mistakes of the file joined.
func Parse(name string, data []byte) (*Profile, error) {
	r := strictyaml.NewReport(name)
	if len(data) > maxFile {
		r.FailFile(nil, "has more than %d bytes; is it the right file?", maxFile)
		return nil, r.Err()
	}
	p := &Profile{}
	if root := r.Read(data); root != nil {
		p.parse(r.NewSection(root, "", "version", "profile", "client", "secret", "gateway", "server", "window", "services"))
	}
	if err := r.Err(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Profile) parse(s *strictyaml.Section) {
	p.Server, p.Window = ServerKnockgw, defaultWindow
	v := version
	if s.Integer("version", &v, 1, maxFile); v != version {
		s.FailKey("version", "%d is not a version that this program knows; a newer knockgw does", v)
	}
	parseName(s, "profile", "what you call the gateway", &p.Name)
	if s.Text("client", &p.Client) {
		if len(p.Client) > protocol.MaxClientID || !utf8.ValidString(p.Client) || strings.ContainsRune(p.Client, 0) {
			s.FailKey("client", "must be 1 to %d bytes of UTF-8 without NUL", protocol.MaxClientID)
		}
	} else if s.Missing("client") {
		s.FailKey("client", "is missing; write the client id that the gateway knows")
	}
	var secret string
	if s.Text("secret", &secret) {
		var err error
		if p.Secret, err = protocol.ParseSecret(secret); err != nil {
			s.FailKey("secret", "%v", err)
		}
	} else if s.Missing("secret") {
		s.FailKey("secret", "is missing; write it as hex:..., base64:... or plain text")
	}
	if s.Text("gateway", &p.Gateway); len(p.Gateway) > protocol.MaxGateway {
		s.FailKey("gateway", "has %d bytes, and a gateway's name at most %d", len(p.Gateway), protocol.MaxGateway)
	}
	s.Choice("server", &p.Server, ServerKnockgw, ServerLibknock)
	s.Duration("window", &p.Window, minTime, maxTime)
	if s.Missing("services") {
		s.FailKey("services", "is missing; name at least one service")
	}
	list := s.List("services", "name one")
	if len(list) > maxServices {
		s.FailKey("services", "has %d services, and a profile at most %d; make two of it", len(list), maxServices)
		return
	}
	lines := map[string]int{} // by name without case
	for _, it := range list {
		svc := parseService(s.NewSection(it.Node, it.Path,
			"name", "address", "mode", "method", "knock_port", "port", "auth", "sequence", "slot"))
		key := strings.ToLower(svc.Name)
		if line := lines[key]; line != 0 && key != "" {
			s.Fail(it.Node, it.Path+".name", "%q is already the service of line %d; give each a name of its own", svc.Name, line)
		}
		lines[key] = it.Node.Line
		p.Services = append(p.Services, svc)
	}
}

// parseName reads a name of the sort that can be a file's.
func parseName(s *strictyaml.Section, key, what string, to *string) {
	switch given := s.Text(key, to); {
	case given && !IsName(*to):
		s.FailKey(key, "%q is not a name; use 1 to %d letters, digits, -, _ and ., and begin with a letter or a digit", *to, maxName)
	case !given && s.Missing(key):
		s.FailKey(key, "is missing; write %s", what)
	}
}

// IsName reports whether text can be a file's name on every system, a label and a word.
func IsName(text string) bool {
	if text == "" || len(text) > maxName || strings.ContainsRune("-_.", rune(text[0])) {
		return false
	}
	for i := range len(text) {
		if c := text[i]; !address.IsNameByte(c) && c != '.' {
			return false
		}
	}
	return true
}

func parseService(s *strictyaml.Section) Service {
	svc := Service{
		Mode: ModeKnockAuth, KnockPort: client.DefaultKnockPort, Slot: client.DefaultSlot,
		Auth: Auth{Protocol: AuthV2, Hint: string(protocol.HintRoute), Buckets: protocol.DefaultBuckets()},
		Sequence: client.Sequence{Length: client.DefaultSequenceLength, Gap: client.DefaultSequenceGap,
			Slot: client.DefaultSlot},
	}
	parseName(s, "name", "what you call the service", &svc.Name)
	parseAddress(s, &svc)
	s.Choice("mode", &svc.Mode, ModeAuth, ModeKnock, ModeKnockAuth)
	parseMethod(s, &svc)
	s.Port("knock_port", &svc.KnockPort)
	s.Port("port", &svc.Port)
	a := s.Sub("auth", "protocol", "hint", "buckets", "proof")
	a.Choice("protocol", &svc.Auth.Protocol, AuthV2, AuthV1)
	a.Choice("hint", &svc.Auth.Hint, string(protocol.HintRoute), string(protocol.HintNone))
	a.Integers("buckets", &svc.Auth.Buckets, protocol.DefaultBuckets())
	a.Boolean("proof", &svc.Auth.Proof)
	q := s.Sub("sequence", "length", "gap", "slot", "legacy")
	most := maxSequence
	if svc.Method == protocol.MethodTCPSYNSeq {
		most = maxSYNParts
	}
	q.Integer("length", &svc.Sequence.Length, minSequence, most)
	q.Duration("gap", &svc.Sequence.Gap, minGap, maxGap)
	q.Seconds("slot", &svc.Sequence.Slot, minTime, maxTime)
	q.Boolean("legacy", &svc.Sequence.Legacy)
	s.Seconds("slot", &svc.Slot, minTime, maxTime)
	return svc
}

// parseAddress reads host:port or prefix:port, and with it the port in MACs.
func parseAddress(s *strictyaml.Section, svc *Service) {
	var text string
	if !s.Text("address", &text) {
		if s.Missing("address") {
			s.FailKey("address", "is missing; write what to dial, as 10.77.0.1:%d", examplePort)
		}
		return
	}
	host, port, err := address.Split(text, examplePort)
	if err == nil && strings.Contains(host, "/") {
		var prefix netip.Prefix
		prefix, err = address.ParsePrefix(host)
		if host = prefix.String(); prefix.IsSingleIP() {
			host = prefix.Addr().String()
		}
	} else if err == nil {
		host, port, err = address.ParseDial(text, examplePort)
	}
	if err != nil {
		s.FailKey("address", "%q: %v", text, err)
		return
	}
	svc.Address = net.JoinHostPort(host, strconv.Itoa(int(port)))
	svc.Port = port
}

// parseMethod reads how to knock, in the spelling that goes over the wire.
func parseMethod(s *strictyaml.Section, svc *Service) {
	if svc.Mode == ModeAuth {
		if s.Has("method") {
			s.FailKey("method", "mode auth takes no knocks; remove it, or write mode: knock-auth")
		}
		return
	}
	svc.Method = protocol.MethodUDP
	var text string
	if !s.Text("method", &text) {
		return
	}
	method, err := protocol.ParseMethod(text)
	if err != nil || method == protocol.MethodTCPAuth {
		s.FailKey("method", "%q is not a knock method; write %s", text, strings.Join(methods(), ", "))
		return
	}
	svc.Method = method
}

func methods() []string {
	return []string{protocol.MethodUDP, protocol.MethodUDPSeq, protocol.MethodUDPPassive, protocol.MethodUDPPassiveSeq,
		protocol.MethodTCPSYN, protocol.MethodTCPSYNSeq, protocol.MethodUDPv2}
}

// complete is the profile with every default in its place, checked as what is read from a file is.
func (p *Profile) complete() (*Profile, error) {
	text, err := p.encode(false)
	if err != nil {
		return nil, err
	}
	return Parse(fmt.Sprintf("profile %q", p.Name), text)
}
