// Package enroll adds clients on both sides: it writes a client's file in the
// clients_dir of a configuration, and creates the profile that the client needs.
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

// ProfileOptions are the options of a profile.
type ProfileOptions struct {
	Name string `yaml:"name,omitempty"` // of the profile
	// Method is a knock method of package protocol; "" for the first of
	// methodPreference that a service accepts.
	Method string `yaml:"method,omitempty"`
}

// methodPreference lists the methods in order of preference: those that need no
// privileges on the client, and of these first the one that the gateway
// recognizes by a table look-up, which works during floods.
func methodPreference() []config.Method {
	return []config.Method{config.MethodUDPv2, config.MethodUDP, config.MethodUDPSeq, config.MethodTCPSYN, config.MethodTCPSYNSeq}
}

// Profile returns the profile that a client needs for all services that it may
// use, with one of its secrets.
func Profile(c *config.Config, id string, secret protocol.Secret, o ProfileOptions) (*profile.Profile, error) {
	i := slices.IndexFunc(c.Clients, func(client config.Client) bool { return client.ID == id })
	if i < 0 {
		return nil, fmt.Errorf("there is no client %q", id)
	}
	p := &profile.Profile{
		Name: o.Name, Client: id, Secret: secret, Gateway: c.Knock.Gateway, Window: c.Knock.Window,
		Server: profile.ServerKnockgw,
	}

	for j := range c.Services {
		svc := &c.Services[j]
		if !c.Clients[i].MayUse(svc.Name) {
			continue
		}
		s, err := profileService(c, svc, o.Method)
		if err != nil {
			return nil, err
		}
		p.Services = append(p.Services, s)
	}
	if len(p.Services) == 0 {
		return nil, fmt.Errorf("client %q may not use any service", id)
	}
	if _, err := p.Marshal(); err != nil { // which finds what the client would reject
		return nil, fmt.Errorf("the profile would be invalid: %w", err)
	}
	return p, nil
}

// profileService returns a service of the profile.
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

// chooseMethod returns the method if the service accepts it, or the preferred
// one that it accepts if method is "".
func chooseMethod(svc *config.Service, method string) (string, error) {
	if method != "" {
		if !slices.Contains(svc.Knock, config.Method(protocol.MethodFamily(method))) {
			accepted := make([]string, len(svc.Knock))
			for i, m := range svc.Knock {
				accepted[i] = string(m)
			}
			return "", fmt.Errorf("service %s does not accept the method %s; choose %s",
				svc.Name, method, strings.Join(accepted, " or "))
		}
		return method, nil
	}
	for _, m := range methodPreference() {
		if slices.Contains(svc.Knock, m) {
			return string(m), nil
		}
	}
	return "", fmt.Errorf("service %s accepts no knocks", svc.Name)
}
