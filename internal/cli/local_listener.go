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
	// socketMode lets nobody but the owner connect: whoever can passes with the owner's key.
	socketMode = 0o600
	// drainNotice is after which time of draining somebody who waits for the end is told about it.
	drainNotice = 500 * time.Millisecond
)

// listenFlags are those of the commands that listen for local programs.
type listenFlags struct {
	listen string
	drain  time.Duration
	conns  int
	output *string
}

func (f *listenFlags) add(cmd *cobra.Command, address string) {
	flags := cmd.Flags()
	flags.StringVar(&f.listen, "listen", address, "the `address` for local programs to connect to: HOST:PORT, or unix:PATH")
	flags.DurationVar(&f.drain, "drain", relay.DefaultDrain, "how long connections may go on after SIGTERM or an interrupt")
	flags.IntVar(&f.conns, "max-connections", relay.DefaultMaxConns, "the `number` of connections at once; more wait")
	f.output = enum{"how to print the address", formats()}.flag(cmd, "output", "o")
}

// listenResult is what is printed when local programs may connect.
type listenResult struct {
	Listening string   `json:"listening"` // HOST:PORT, or unix:PATH
	Services  []string `json:"services"`
}

// printReady prints the address.
func (f *listenFlags) printReady(cmd *cobra.Command, addr net.Addr, services ...string) error {
	r := listenResult{listenAddress(addr), append([]string{}, services...)}
	return printLine(cmd, *f.output, r, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "listening on %s for %s\n", r.Listening, strings.Join(services, ", "))
		return err
	})
}

// validate finds mistakes in the flags.
func (f *listenFlags) validate() error {
	switch {
	case f.conns < 1:
		return &usageError{fmt.Errorf("--max-connections %d: write 1 or more", f.conns)}
	case f.drain < 0:
		return &usageError{fmt.Errorf("--drain %v: write a time, as in 30s", f.drain)}
	case f.drain == 0:
		f.drain = -1 // none, for the relay
	}
	return nil
}

// open listens as --listen says. It warns where others than the users of this host can connect.
func (f *listenFlags) open(ctx context.Context, warn *log.Logger) (net.Listener, error) {
	if path, ok := strings.CutPrefix(f.listen, unixPrefix); ok {
		return listenUnix(ctx, path)
	}
	if _, _, err := net.SplitHostPort(f.listen); err != nil {
		return nil, &usageError{fmt.Errorf("--listen %s: write HOST:PORT, as in 127.0.0.1:1080, or unix:PATH", f.listen)}
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, f.network(), f.listen)
	if err != nil {
		return nil, fmt.Errorf("--listen %s: %w", f.listen, err)
	}
	if addr, ok := l.Addr().(*net.TCPAddr); ok && !addr.IP.IsLoopback() {
		warn.Printf("WARNING: %v is not a loopback address: everybody who reaches it passes through with your key. "+
			"Listen on 127.0.0.1 or [::1] unless a firewall stands before it.", addr)
	}
	return l, nil
}

// network is tcp, or that of IPv4 alone where --listen names an address of it: 0.0.0.0 would mean IPv6 too.
func (f *listenFlags) network() string {
	host, _, err := net.SplitHostPort(f.listen)
	if addr, bad := netip.ParseAddr(host); err == nil && bad == nil && addr.Is4() {
		return "tcp4"
	}
	return "tcp"
}

// listenUnix listens at a path for the owner alone. A socket that nobody listens at any more is replaced.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	info, err := os.Lstat(path)
	if err == nil && info.Mode()&os.ModeSocket == 0 {
		return nil, fmt.Errorf("--listen %s%s: there is a file that is no socket; name another path, or delete it", unixPrefix, path)
	}
	if err == nil {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		switch {
		case err == nil:
			_ = conn.Close() // it was only a question
			return nil, fmt.Errorf("--listen %s%s: somebody listens there already", unixPrefix, path)
		case errors.Is(err, syscall.ECONNREFUSED):
			if err := os.Remove(path); err != nil {
				return nil, fmt.Errorf("--listen: replace a socket that nobody uses: %w", err)
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

// listenAddress is how --listen would have said a listener's address.
func listenAddress(addr net.Addr) string {
	if addr.Network() == "unix" {
		return unixPrefix + addr.String()
	}
	return addr.String()
}

// serve runs serve, and says what it waits for when ctx has ended and serve has not.
func (f *listenFlags) serve(ctx context.Context, say *log.Logger, serve func() error) error {
	done := make(chan struct{})
	told := make(chan struct{})
	go func() {
		defer close(told)
		select {
		case <-ctx.Done():
		case <-done:
			return
		}
		timer := time.NewTimer(drainNotice)
		defer timer.Stop()
		select {
		case <-timer.C:
			say.Printf("no new connections; those that are open have %v to end (a second signal ends them at once)", f.drain)
		case <-done:
		}
	}()
	err := serve()
	close(done)
	<-told
	return err
}
