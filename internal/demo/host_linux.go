package demo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// sysctlRoot holds the settings of the namespace of the thread that opens the file.
const sysctlRoot = "/proc/sys/net"

// A host is a network namespace and the thread that lives in it. Sockets and
// processes that the thread makes belong to the namespace, whoever uses them.
type host struct {
	name   string
	addrs  []netip.Addr // one per family; the gateway has none of its own
	ns     netns.NsHandle
	routes *netlink.Handle
	calls  chan func()
	ended  chan struct{}
}

// newHost makes a namespace with nothing but a loopback. Its errors match
// fs.ErrPermission where the caller may not make one.
func newHost(name string) (*host, error) {
	h := &host{name: name, ns: netns.None(), calls: make(chan func()), ended: make(chan struct{})}
	started := make(chan error)
	go h.live(started)
	if err := <-started; err != nil {
		<-h.ended
		if errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("make a network namespace: %w; the demonstration builds its own network: run it as root", err)
		}
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	if err := h.do(h.prepare); err != nil {
		return nil, errors.Join(fmt.Errorf("set up the %s: %w", name, err), h.close())
	}
	return h, nil
}

// live is the host's thread. It is never given back: a thread in the wrong
// network would serve any goroutine, so the runtime ends it with this one. Going
// home is for the one thread that cannot end, the process' first.
func (h *host) live(started chan<- error) {
	defer close(h.ended)
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		started <- err
		return
	}
	if h.ns, err = netns.New(); err != nil {
		started <- errors.Join(err, home.Close())
		return
	}
	started <- nil
	for f := range h.calls {
		f()
	}
	_ = netns.Set(home)
	_ = home.Close()
}

// prepare runs on the host's thread.
func (h *host) prepare() (err error) {
	if h.routes, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("open a netlink socket: %w", err)
	}
	return h.configure("lo")
}

// do runs f on the host's thread, one f at a time.
func (h *host) do(f func() error) error {
	result := make(chan error, 1)
	h.calls <- func() { result <- f() }
	return <-result
}

// close gives the namespace up; it ends with the last socket in it.
func (h *host) close() error {
	if h.routes != nil {
		h.routes.Close()
	}
	close(h.calls)
	<-h.ended
	return h.ns.Close()
}

// set changes one setting of the host's network, named as in "ipv4/ip_forward".
func (h *host) set(name, value string) error {
	return h.do(func() error {
		return os.WriteFile(filepath.Join(sysctlRoot, filepath.FromSlash(name)), []byte(value), 0o600)
	})
}

// configure gives an interface its addresses and sets it up.
func (h *host) configure(name string, addrs ...netip.Addr) error {
	link, err := h.routes.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", name, err)
	}
	for _, a := range addrs {
		if err := h.routes.AddrAdd(link, onLink(a)); err != nil {
			return fmt.Errorf("add %v to %s: %w", a, name, err)
		}
	}
	if err := h.routes.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	return nil
}

// onLink is an address with its link's prefix, usable at once: looking for a
// duplicate takes IPv6 a second, and in here there is none.
func onLink(a netip.Addr) *netlink.Addr {
	bits := linkBits4
	if a.Is6() {
		bits = linkBits6
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, a.BitLen())}}
	if a.Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	return addr
}

// dial is net.Dialer's DialContext on the host. One address and no name: the
// dialer makes its socket on the calling thread then.
func (h *host) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var (
		d    net.Dialer
		conn net.Conn
	)
	err := h.do(func() (err error) {
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// listen is net.Listen on the host.
func (h *host) listen(ctx context.Context, at netip.AddrPort) (net.Listener, error) {
	var (
		config net.ListenConfig
		l      net.Listener
	)
	err := h.do(func() (err error) {
		l, err = config.Listen(ctx, "tcp", at.String())
		return err
	})
	return l, err
}

// start starts a process on the host. It dies with the host's thread, if not before.
func (h *host) start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return h.do(cmd.Start)
}
