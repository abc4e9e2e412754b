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

// proxyAddress is the default address: 1080 is the usual port of SOCKS proxies.
const proxyAddress = "127.0.0.1:1080"

func proxyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "proxy [--listen ADDRESS] [--profile NAME]...",
		Short: "Run a SOCKS5 and HTTP proxy for the services",
		Long: "Runs a SOCKS5 and HTTP proxy (CONNECT and plain requests) at a local address. It\n" +
			"reaches the services of your profiles and nothing else: by SERVICE, by SERVICE.PROFILE\n" +
			"if several profiles have one of that name, or by HOST:PORT. A service name implies its\n" +
			"port; the port of the request is ignored. Each connection has its own knock. Profiles\n" +
			"that are imported or changed while it runs take effect.\n\n" +
			"It prints the address when it is ready. SIGTERM or an interrupt stops it when all\n" +
			"connections have ended, or after --drain; a second signal stops it at once.",
		Example: "  knockgw proxy\n  curl -x socks5h://127.0.0.1:1080 http://wiki/\n  curl -x http://127.0.0.1:1080 https://wiki/",
		Args:    exactArgs(0),
	}
	var local listenFlags
	local.add(cmd, proxyAddress)
	only := cmd.Flags().StringArray("profile", nil, "`profile` whose services are reachable; repeatable (default: all)")
	completeFlag(cmd, "profile", completeProfiles(func(p *profile.Profile) string { return p.Name }))
	timeout := cmd.Flags().Duration("timeout", client.DefaultTimeout, "maximum `duration` of connecting to a service")

	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := local.validate(); err != nil {
			return err
		}
		dir, err := profile.DefaultDirectory()
		if err != nil {
			return err
		}

		s := proxyServices{dir: dir, only: *only, timeout: *timeout}
		ctx, errs := cmd.Context(), log.New(cmd.ErrOrStderr(), "knockgw: ", 0)
		names, err := s.check(errs)
		if err != nil {
			return err
		}
		listener, err := local.open(ctx, errs)
		if err != nil {
			return err
		}

		if err := local.printReady(cmd, listener.Addr(), names...); err != nil {
			return errors.Join(err, listener.Close())
		}

		return local.serve(ctx, errs, func() error {
			return proxy.Serve(ctx, proxy.Options{
				Listener: listener, Dial: s.dial, MaxConns: local.conns, Drain: local.drain,
				Report: func(r proxy.Result) {
					if r.Err != nil {
						errs.Printf("%s: connection from %s: %s", requestText(r), listenAddress(r.From), singleLine(withoutContext(r.Err)))
					}
				},
				OnRetry: func(err error) { errs.Printf("accept: %v; trying again", err) },
			})
		})
	}
	return cmd
}

// requestText describes what a client of the proxy requested, as far as known.
func requestText(end proxy.Result) string {
	if end.Address == "" {
		return end.Protocol
	}
	return end.Protocol + " " + end.Address
}

// proxyServices finds services by the names that clients of the proxy use.
type proxyServices struct {
	dir     profile.Directory
	only    []string // profiles; none means all
	timeout time.Duration
}

// profiles returns the selected profiles as they are now. The error is about
// profiles that cannot be read.
func (s *proxyServices) profiles() ([]*profile.Profile, error) {
	all, err := s.dir.Load()
	if len(s.only) > 0 {
		all = slices.DeleteFunc(all, func(p *profile.Profile) bool {
			return !slices.ContainsFunc(s.only, func(name string) bool { return strings.EqualFold(name, p.Name) })
		})
	}
	return all, err
}

// check returns the names of the services; an error if there can be none.
func (s *proxyServices) check(warn *log.Logger) ([]string, error) {
	all, bad := s.profiles()
	for _, name := range s.only {
		if !slices.ContainsFunc(all, func(p *profile.Profile) bool { return strings.EqualFold(name, p.Name) }) {
			return nil, errors.Join(&usageError{
				fmt.Errorf("--profile %s: there is no such profile in %s; knockgw import creates one", name, s.dir),
			}, bad)
		}
	}
	if len(all) == 0 {
		if bad != nil {
			return nil, bad
		}
		return nil, &usageError{fmt.Errorf("there is no profile in %s; knockgw import creates one", s.dir)}
	}
	if bad != nil {
		warn.Print(singleLine(bad))
	}
	return dialNames(all), nil
}

// dial connects to the service that a client of the proxy requests.
func (s *proxyServices) dial(ctx context.Context, address string) (net.Conn, error) {
	endpoint, err := s.find(address)
	if err != nil {
		return nil, err
	}
	d, err := endpoint.Dialer()
	if err != nil {
		return nil, err
	}
	d.Timeout = s.timeout
	conn, err := d.DialContext(ctx, "tcp", endpoint.Address)
	if err != nil {
		return nil, err
	}
	return d.DetectEarlyClose(conn), nil
}

// find returns the endpoint for host:port, where host may be SERVICE or
// SERVICE.PROFILE.
func (s *proxyServices) find(address string) (*profile.Endpoint, error) {
	all, bad := s.profiles()
	var endpoints []*profile.Endpoint
	for _, p := range all {
		endpoint, err := p.Find(address)
		switch {
		case err == nil:
			endpoints = append(endpoints, endpoint)
		case !errors.Is(err, profile.ErrNotFound):
			bad = errors.Join(bad, err)
		}
	}

	switch len(endpoints) {
	case 1:
		return endpoints[0], nil
	case 0:
		if endpoint := profile.FindDotted(all, address); endpoint != nil {
			return endpoint, nil
		}
		return nil, errors.Join(&proxy.UnknownServiceError{Address: address, Services: dialNames(all)}, bad)
	}
	var choices []string
	for _, endpoint := range endpoints {
		choices = append(choices, endpoint.Service.Name+"."+endpoint.Profile.Name)
	}
	return nil, fmt.Errorf("%s is in several profiles; choose %s", address, strings.Join(choices, " or "))
}

// dialNames returns the shortest names that find accepts.
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
