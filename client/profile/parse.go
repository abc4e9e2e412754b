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

// Error is one error in a profile: the file, the line, the key, and what to
// write instead. It never contains the secret.
type Error = strictyaml.Error

// The limits, with their reasons.
const (
	version = 1 // of the format

	maxFile     = 64 << 10 // bytes; a larger file is the wrong one
	maxServices = 64       // more than a person would look through
	maxName     = 64       // bytes: it is a file name, and a word on command lines

	// As in the gateway's configuration.
	minTime     = time.Second
	maxTime     = 5 * time.Minute
	minSequence = 2
	maxSequence = 8
	maxSYNParts = 5

	minGap = time.Millisecond // 0 means the default
	maxGap = 5 * time.Second  // gateways allow no more for a whole sequence

	examplePort = 22 // in remedies
)

// Parse parses the content of a profile's file, at most 64 KiB of YAML in which
// no key is ignored. name is used in errors. The error joins all errors of the
// file, each of type *[Error].
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
	p.Server, p.Window = ServerKnockgw, protocol.DefaultWindow
	v := version
	if s.Integer("version", &v, 1, maxFile); v != version {
		s.FailKey("version", "%d is not supported by this program; use a newer knockgw", v)
	}
	parseName(s, "profile", "a name for the gateway", &p.Name)
	if s.Text("client", &p.Client) {
		if len(p.Client) > protocol.MaxClientID || !utf8.ValidString(p.Client) || strings.ContainsRune(p.Client, 0) {
			s.FailKey("client", "must be 1 to %d bytes of UTF-8 without NUL", protocol.MaxClientID)
		}
	} else if s.Missing("client") {
		s.FailKey("client", "is missing; write the client id of the gateway's configuration")
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
		s.FailKey("gateway", "has %d bytes; a gateway's name has at most %d", len(p.Gateway), protocol.MaxGateway)
	}
	s.Choice("server", &p.Server, ServerKnockgw, ServerLibknock)
	s.Duration("window", &p.Window, minTime, maxTime)

	if s.Missing("services") {
		s.FailKey("services", "is missing; name at least one service")
	}
	list := s.List("services", "name one")
	if len(list) > maxServices {
		s.FailKey("services", "has %d services; a profile has at most %d, so split it in two", len(list), maxServices)
		return
	}
	lines := map[string]int{} // by name in lower case
	for _, it := range list {
		svc := parseService(s.NewSection(it.Node, it.Path,
			"name", "address", "mode", "method", "knock_port", "port", "auth", "sequence", "slot"))
		key := strings.ToLower(svc.Name)
		if line := lines[key]; line != 0 && key != "" {
			s.Fail(it.Node, it.Path+".name", "%q is already the service of line %d; give each service its own name", svc.Name, line)
		}
		lines[key] = it.Node.Line
		p.Services = append(p.Services, svc)
	}
}

// parseName reads a name that can be used in a file name.
func parseName(s *strictyaml.Section, key, what string, to *string) {
	switch given := s.Text(key, to); {
	case given && !IsName(*to):
		s.FailKey(key, "%q is not a name; use 1 to %d letters, digits, -, _ and ., starting with a letter or a digit", *to, maxName)
	case !given && s.Missing(key):
		s.FailKey(key, "is missing; write %s", what)
	}
}

// IsName reports whether text can be the name of a profile or of a service: a
// file name on every system, a label and a word.
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
	parseName(s, "name", "a name for the service", &svc.Name)
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
	maxLength := maxSequence
	if svc.Method == protocol.MethodTCPSYNSeq {
		maxLength = maxSYNParts
	}
	q.Integer("length", &svc.Sequence.Length, minSequence, maxLength)
	q.Duration("gap", &svc.Sequence.Gap, minGap, maxGap)
	q.Seconds("slot", &svc.Sequence.Slot, minTime, maxTime)
	q.Boolean("legacy", &svc.Sequence.Legacy)
	s.Seconds("slot", &svc.Slot, minTime, maxTime)
	return svc
}

// parseAddress reads host:port or prefix:port, which also sets the port in MACs.
func parseAddress(s *strictyaml.Section, svc *Service) {
	var text string
	if !s.Text("address", &text) {
		if s.Missing("address") {
			s.FailKey("address", "is missing; write the address to dial, such as 10.77.0.1:%d", examplePort)
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

// parseMethod reads the knock method, and stores its name in the protocol.
func parseMethod(s *strictyaml.Section, svc *Service) {
	if svc.Mode == ModeAuth {
		if s.Has("method") {
			s.FailKey("method", "mode auth uses no knocks; remove the key, or write mode: knock-auth")
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

// complete returns the profile with all defaults, checked like a file.
func (p *Profile) complete() (*Profile, error) {
	text, err := p.encode(false)
	if err != nil {
		return nil, err
	}
	return Parse(fmt.Sprintf("profile %q", p.Name), text)
}
