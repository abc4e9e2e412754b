package cli

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/client/profile"
	"github.com/knockgw/knockgw/client/proxy"
)

// proxyAddress is where SOCKS proxies are by custom.
const proxyAddress = "127.0.0.1:1080"

func proxyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "proxy [--listen ADDRESS] [--profile NAME]...",
		Short: "Let programs reach the services by name through a proxy",
		Long: "A SOCKS5 and HTTP proxy (CONNECT, and plain requests) at one local address. It reaches the services of your\n" +
			"profiles and nothing else: as SERVICE, where several profiles have one as SERVICE.PROFILE, or as HOST:PORT.\n" +
			"A service's name stands for its port too, whatever port is asked for. It knocks for each connection. A\n" +
			"profile that is imported or changed later is found too.\n\n" +
			"It prints the address when it is ready, with -o json as an object on a line. SIGTERM or an interrupt ends it when the connections have ended, or\n" +
			"--drain later; a second one at once.",
		Example: "  knockgw proxy\n  curl -x socks5h://127.0.0.1:1080 http://wiki/\n  curl -x http://127.0.0.1:1080 https://wiki/",
		Args:    exactArgs(0),
	}
	var local listenFlags
	local.add(cmd, proxyAddress)
	only := cmd.Flags().StringArray("profile", nil, "a `profile` whose services are reachable (default: all)")
	completeFlag(cmd, "profile", completeProfiles(func(p *profile.Profile) string { return p.Name }))
	timeout := cmd.Flags().Duration("timeout", client.DefaultTimeout, "how long reaching a service may take")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := local.validate(); err != nil {
			return err
		}
		dir, err := profile.DefaultDirectory()
		if err != nil {
			return err
		}
		s := proxyServices{dir: dir, only: *only, timeout: *timeout}
		ctx, say := cmd.Context(), log.New(cmd.ErrOrStderr(), "knockgw: ", 0)
		names, err := s.check(say)
		if err != nil {
			return err
		}
		listener, err := local.open(ctx, say)
		if err != nil {
			return err
		}
		if err := local.printReady(cmd, listener.Addr(), names...); err != nil {
			return errors.Join(err, listener.Close())
		}
		return local.serve(ctx, say, func() error {
			return proxy.Serve(ctx, proxy.Options{
				Listener: listener, Dial: s.dial, MaxConns: local.conns, Drain: local.drain,
				Report: func(end proxy.Result) {
					if end.Err != nil {
						say.Printf("%s: connection from %s: %s", requestText(end), listenAddress(end.From), singleLine(withoutContext(end.Err)))
					}
				},
				OnRetry: func(err error) { say.Printf("accept: %v; trying again", err) },
			})
		})
	}
	return cmd
}

// requestText is what a proxy's client wanted, as far as that is known.
func requestText(end proxy.Result) string {
	if end.Address == "" {
		return end.Protocol
	}
	return end.Protocol + " " + end.Address
}

// proxyServices are those of profiles, by the names that a proxy's clients use.
type proxyServices struct {
	dir     profile.Directory
	only    []string // the profiles; none: all
	timeout time.Duration
}

// profiles are the profiles that count, as they are now. The error is about others.
func (s *proxyServices) profiles() ([]*profile.Profile, error) {
	all, err := s.dir.Load()
	if len(s.only) > 0 {
		all = slices.DeleteFunc(all, func(p *profile.Profile) bool {
			return !slices.ContainsFunc(s.only, func(name string) bool { return strings.EqualFold(name, p.Name) })
		})
	}
	return all, err
}

// check lists the services, and fails if there cannot be any.
func (s *proxyServices) check(warn *log.Logger) ([]string, error) {
	all, bad := s.profiles()
	for _, name := range s.only {
		if !slices.ContainsFunc(all, func(p *profile.Profile) bool { return strings.EqualFold(name, p.Name) }) {
			return nil, errors.Join(&usageError{fmt.Errorf("--profile %s: there is no such profile in %s; knockgw import makes one", name, s.dir)}, bad)
		}
	}
	if len(all) == 0 {
		if bad != nil {
			return nil, bad
		}
		return nil, &usageError{fmt.Errorf("there is no profile in %s; knockgw import makes one", s.dir)}
	}
	if bad != nil {
		warn.Print(singleLine(bad))
	}
	return dialNames(all), nil
}

// dial reaches the service that a client of the proxy asks for.
func (s *proxyServices) dial(ctx context.Context, address string) (net.Conn, error) {
	door, err := s.find(address)
	if err != nil {
		return nil, err
	}
	d, err := door.Dialer()
	if err != nil {
		return nil, err
	}
	d.Timeout = s.timeout
	conn, err := d.DialContext(ctx, "tcp", door.Address)
	if err != nil {
		return nil, err
	}
	return d.DetectEarlyClose(conn), nil
}

// find is the door to host:port, where host may be SERVICE or SERVICE.PROFILE.
func (s *proxyServices) find(address string) (*profile.Endpoint, error) {
	all, bad := s.profiles()
	var doors []*profile.Endpoint
	for _, p := range all {
		door, err := p.Find(address)
		switch {
		case err == nil:
			doors = append(doors, door)
		case !errors.Is(err, profile.ErrNotFound):
			bad = errors.Join(bad, err)
		}
	}
	switch len(doors) {
	case 1:
		return doors[0], nil
	case 0:
		if door := profile.FindDotted(all, address); door != nil {
			return door, nil
		}
		return nil, errors.Join(&proxy.UnknownServiceError{Address: address, Services: dialNames(all)}, bad)
	}
	var choices []string
	for _, door := range doors {
		choices = append(choices, door.Service.Name+"."+door.Profile.Name)
	}
	return nil, fmt.Errorf("%s is in several profiles; choose %s", address, strings.Join(choices, " or "))
}

// dialNames are what find takes, as short as it can be.
func dialNames(all []*profile.Profile) []string {
	count := map[string]int{}
	for _, p := range all {
		for _, service := range p.Services {
			count[strings.ToLower(service.Name)]++
		}
	}
	var list []string
	for _, p := range all {
		for _, service := range p.Services {
			name := service.Name
			if count[strings.ToLower(name)] > 1 {
				name += "." + p.Name
			}
			list = append(list, name)
		}
	}
	return list
}
