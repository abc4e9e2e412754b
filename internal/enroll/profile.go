// Package enroll is how a client comes to be known on both sides: from a configuration to the profile that
// the client needs, and from a client to its file in the configuration's clients_dir.
package enroll

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/client/profile"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/protocol"
)

// ProfileOptions are what a profile is to be like.
type ProfileOptions struct {
	Name   string `yaml:"name,omitempty"`   // of the profile
	Method string `yaml:"method,omitempty"` // how to knock, of package protocol; empty: the first of preferred that a service takes
}

// methodPreference are the methods in the order in which they are chosen: those that need nothing on the client,
// first the one that the gateway finds by a single look-up, so that no flood gets in its way.
func methodPreference() []config.Method {
	return []config.Method{config.MethodUDPv2, config.MethodUDP, config.MethodUDPSeq, config.MethodTCPSYN, config.MethodTCPSYNSeq}
}

// Profile is what the client of that id needs to reach every service that it may use, with one of its
// secrets.
func Profile(c *config.Config, id string, secret protocol.Secret, terms ProfileOptions) (*profile.Profile, error) {
	i := slices.IndexFunc(c.Clients, func(client config.Client) bool { return client.ID == id })
	if i < 0 {
		return nil, fmt.Errorf("there is no client %q", id)
	}
	p := &profile.Profile{
		Name: terms.Name, Client: id, Secret: secret, Gateway: c.Knock.Gateway, Window: c.Knock.Window,
		Server: profile.ServerKnockgw,
	}
	for j := range c.Services {
		svc := &c.Services[j]
		if !c.Clients[i].MayUse(svc.Name) {
			continue
		}
		s, err := profileService(c, svc, terms.Method)
		if err != nil {
			return nil, err
		}
		p.Services = append(p.Services, s)
	}
	if len(p.Services) == 0 {
		return nil, fmt.Errorf("client %q may use no service", id)
	}
	if _, err := p.Marshal(); err != nil { // what the client would refuse
		return nil, fmt.Errorf("no profile can say this: %w", err)
	}
	return p, nil
}

// profileService is what a client must know of a service.
func profileService(c *config.Config, svc *config.Service, method string) (profile.Service, error) {
	s := profile.Service{
		Name: svc.Name, Address: svc.Address, Mode: string(svc.Mode),
		KnockPort: c.Knock.UDPPort, Port: svc.MACPort,
	}
	if s.Address == "" {
		host := svc.Listen.String()
		if svc.Listen.IsSingleIP() {
			host = svc.Listen.Addr().String()
		}
		s.Address = net.JoinHostPort(host, strconv.Itoa(int(svc.Port)))
	}
	if svc.Mode.Authenticates() {
		s.Auth = profile.Auth{
			Protocol: profile.AuthV2, Hint: string(svc.Auth.Hint), Buckets: svc.Auth.Buckets, Proof: svc.Auth.Proof,
		}
		if !svc.Auth.Accepts(config.AuthV2) {
			s.Auth = profile.Auth{Protocol: profile.AuthV1, Proof: svc.Auth.Proof}
		}
	}
	if !svc.Mode.Knocks() {
		return s, nil
	}
	var err error
	if s.Method, err = chooseMethod(svc, method); err != nil {
		return s, err
	}
	switch config.Method(protocol.MethodFamily(s.Method)) {
	case config.MethodUDPSeq, config.MethodTCPSYNSeq:
		s.Sequence = client.Sequence{Length: c.Knock.Sequence.Length, Slot: c.Knock.Sequence.Slot}
	case config.MethodUDPv2:
		s.Slot = c.Knock.Slot
	case config.MethodTCPSYN:
		s.Slot = c.Knock.Window.Truncate(time.Second) // docs/wire-formats.md, TCP SYN knock
	}
	return s, nil
}

// chooseMethod is the method that was asked for, if the service takes it, or the first that it takes.
func chooseMethod(svc *config.Service, method string) (string, error) {
	if method != "" {
		if !slices.Contains(svc.Knock, config.Method(protocol.MethodFamily(method))) {
			taken := make([]string, len(svc.Knock))
			for i, m := range svc.Knock {
				taken[i] = string(m)
			}
			return "", fmt.Errorf("service %s does not take knocks of the method %s; choose %s",
				svc.Name, method, strings.Join(taken, " or "))
		}
		return method, nil
	}
	for _, m := range methodPreference() {
		if slices.Contains(svc.Knock, m) {
			return string(m), nil
		}
	}
	return "", fmt.Errorf("service %s takes no knocks", svc.Name)
}
