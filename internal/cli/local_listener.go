package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/client/relay"
)

const (
	// unixPrefix marks a --listen that is the path of a Unix socket.
	unixPrefix = "unix:"
	// socketMode restricts the socket to its owner: connections to it use the
	// owner's key.
	socketMode = 0o600
	// drainNotice is the time after which draining is reported to the user.
	drainNotice = 500 * time.Millisecond
)

// listenFlags are the flags of commands that listen for local programs.
type listenFlags struct {
	listen string
	drain  time.Duration
	conns  int
	output *string
}

func (f *listenFlags) add(cmd *cobra.Command, address string) {
	flags := cmd.Flags()
	flags.StringVar(&f.listen, "listen", address, "local `address` to listen at: HOST:PORT or unix:PATH")
	flags.DurationVar(&f.drain, "drain", relay.DefaultDrain, "maximum `duration` that connections continue after SIGTERM or an interrupt")
	flags.IntVar(&f.conns, "max-connections", relay.DefaultMaxConns, "maximum `number` of concurrent connections; further ones wait")
	f.output = enum{"output `format` of the address", formats()}.flag(cmd, "output", "o")
}

// listenResult is printed when local programs can connect.
type listenResult struct {
	Listening string   `json:"listening"` // HOST:PORT, or unix:PATH
	Services  []string `json:"services"`
}

// printReady prints the address and the services.
func (f *listenFlags) printReady(cmd *cobra.Command, addr net.Addr, services ...string) error {
	r := listenResult{listenAddress(addr), append([]string{}, services...)}
	return printLine(cmd, *f.output, r, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "listening on %s for %s\n", r.Listening, strings.Join(services, ", "))
		return err
	})
}

// validate checks the flags.
func (f *listenFlags) validate() error {
	switch {
	case f.conns < 1:
		return &usageError{fmt.Errorf("--max-connections %d: write 1 or more", f.conns)}
	case f.drain < 0:
		return &usageError{fmt.Errorf("--drain %v: write a duration such as 30s", f.drain)}
	case f.drain == 0:
		f.drain = -1 // none, in relay.Options
	}
	return nil
}

// open listens at --listen. It warns if other hosts can connect.
func (f *listenFlags) open(ctx context.Context, warn *log.Logger) (net.Listener, error) {
	if path, ok := strings.CutPrefix(f.listen, unixPrefix); ok {
		return listenUnix(ctx, path)
	}
	if _, _, err := net.SplitHostPort(f.listen); err != nil {
		return nil, &usageError{fmt.Errorf("--listen %s: write HOST:PORT such as 127.0.0.1:1080, or unix:PATH", f.listen)}
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, f.network(), f.listen)
	if err != nil {
		return nil, fmt.Errorf("--listen %s: %w", f.listen, err)
	}
	if addr, ok := l.Addr().(*net.TCPAddr); ok && !addr.IP.IsLoopback() {
		warn.Printf("WARNING: %v is not a loopback address: every host that reaches it can use your key. "+
			"Listen on 127.0.0.1 or [::1] unless a firewall protects it.", addr)
	}
	return l, nil
}

// network returns tcp, or tcp4 for an IPv4 address: with tcp, 0.0.0.0 would
// listen on IPv6 too.
func (f *listenFlags) network() string {
	host, _, err := net.SplitHostPort(f.listen)
	if addr, bad := netip.ParseAddr(host); err == nil && bad == nil && addr.Is4() {
		return "tcp4"
	}
	return "tcp"
}

// listenUnix listens at a path, for the owner only. A stale socket is replaced.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	info, err := os.Lstat(path)
	if err == nil && info.Mode()&os.ModeSocket == 0 {
		return nil, fmt.Errorf("--listen %s%s: the file exists and is not a socket; name another path, or delete it", unixPrefix, path)
	}
	if err == nil {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		switch {
		case err == nil:
			_ = conn.Close() // only a probe
			return nil, fmt.Errorf("--listen %s%s: another process listens there", unixPrefix, path)
		case errors.Is(err, syscall.ECONNREFUSED):
			if err := os.Remove(path); err != nil {
				return nil, fmt.Errorf("--listen: replace a stale socket: %w", err)
			}
		}
	}

	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("--listen %s%s: %w", unixPrefix, path, err)
	}
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, errors.Join(fmt.Errorf("--listen: %w", err), l.Close())
	}
	return l, nil
}

// listenAddress returns the address of a listener in the format of --listen.
func listenAddress(addr net.Addr) string {
	if addr.Network() == "unix" {
		return unixPrefix + addr.String()
	}
	return addr.String()
}

// serve runs a server, and prints a notice if it is still draining some time
// after ctx has ended.
func (f *listenFlags) serve(ctx context.Context, notify *log.Logger, server func() error) error {
	done := make(chan struct{})
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		select {
		case <-ctx.Done():
		case <-done:
			return
		}
		timer := time.NewTimer(drainNotice)
		defer timer.Stop()
		select {
		case <-timer.C:
			notify.Printf("not accepting connections; open ones have %v to end (a second signal ends them at once)", f.drain)
		case <-done:
		}
	}()

	err := server()
	close(done)
	<-finished
	return err
}
