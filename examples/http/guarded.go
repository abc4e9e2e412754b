package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/netip"

	"golang.org/x/sync/errgroup"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/client/profile"
	"github.com/knockgw/knockgw/examples/internal/target"
	"github.com/knockgw/knockgw/guard"
	"github.com/knockgw/knockgw/protocol"
)

// guarded runs a website that needs no gateway: it takes the knocks itself, on
// a UDP port, and resets connections that have not knocked and authenticated.
// (The port is visible; only a gateway hides it.) The profile is for the
// address of the website and has its only client.
func guarded(ctx context.Context, address string, which target.Flags) error {
	endpoint, err := which.Find()
	if err != nil {
		return err
	}
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}

	var config net.ListenConfig
	knocks, err := config.ListenPacket(ctx, "udp", netip.AddrPortFrom(at.Addr(), endpoint.Service.KnockPort).String())
	if err != nil {
		return err
	}
	g, err := newGuard(endpoint, at.Port(), knocks)
	if err != nil {
		return errors.Join(err, knocks.Close())
	}
	inner, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return errors.Join(err, knocks.Close())
	}
	ln, err := g.Guard(endpoint.Service.Name, inner, auth.ListenerOptions{})
	if err != nil {
		return errors.Join(err, inner.Close(), knocks.Close())
	}

	site := &http.Server{
		ReadHeaderTimeout: timeout,
		ConnContext:       auth.ConnContext, // adds the client to requests
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			peer, _ := auth.PeerFromContext(r.Context())
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			fmt.Fprintf(w, "hello %s: %s %s\n", peer.ClientID(), r.Method, r.URL.Path) //nolint:gosec // see the type
		}),
	}

	log.Println("listening on", inner.Addr())
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() error { return g.Run(ctx) })
	both.Go(func() error {
		defer context.AfterFunc(ctx, func() { _ = site.Close() })()
		if err := site.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return both.Wait()
}

// newGuard returns a guard for the client and the service of the profile.
func newGuard(endpoint *profile.Endpoint, port uint16, knocks net.PacketConn) (*guard.Guard, error) {
	client, err := protocol.NewClient(endpoint.Profile.Client, endpoint.Profile.Secret)
	if err != nil {
		return nil, err
	}
	return guard.New(guard.Options{
		Knocks:  []net.PacketConn{knocks},
		Secrets: auth.NewSecrets(client),
		Services: []guard.Service{{
			Name: endpoint.Service.Name, Port: port, Mode: guard.ModeKnockAuth,
			Methods: []string{endpoint.Service.Method},
			Auth:    guard.Auth{Proof: endpoint.Service.Auth.Proof},
		}},
	})
}
