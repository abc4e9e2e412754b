package doctor

import (
	"context"
	"io/fs"
	"net/netip"

	"github.com/knockgw/knockgw/internal/bypass"
)

// A Host queries a system. A function is nil if the system does not provide it;
// every system provides Running, Resolve and Dial.
type Host struct {
	System string // GOOS

	// Running returns the process of the gateway with this configuration, or
	// control.ErrNotRunning.
	Running      func(ctx context.Context) (pid int, err error)
	Kernel       func() (release string, err error)
	Capabilities func() (uint64, error) // effective; a bit each
	Descriptors  func() (uint64, error) // that a process may have
	Memory       func() (uint64, error) // available, in bytes
	ClockSynced  func() (bool, error)
	LoadZone     func(name string) error // loads a time zone
	OpenTUN      func() error            // opens /dev/net/tun
	LoadFilter   func() error            // loads an eBPF filter and closes it

	Setting      func(name string) (string, error) // of /proc/sys/net, such as ipv4/ip_forward
	Links        func() ([]Link, error)            // all interfaces
	Interface    func(name string) (TUNInterface, error)
	ProxiedAddrs func(device string) ([]netip.Addr, error) // that an interface answers neighbor queries for
	Firewall     func() (*Firewall, error)

	// Route returns the interface by which packets to an address leave, or "".
	Route func(netip.Addr) (device string, err error)
	// IngressRoute returns the interface that a packet from outside is routed
	// to, or "".
	IngressRoute func(IngressPacket) (device string, err error)
	// MissingRoutes returns what is missing of the routes and rules that a
	// running gateway has installed for tun.routes and tun.local.
	MissingRoutes func() (routes, ports []string, err error)
	// UnavailableAddrs returns the addresses of tun.local that the host cannot
	// use yet, with the reason.
	UnavailableAddrs func() ([]string, error)
	// Bypass returns what lets packets bypass the gateway. Unless it is running,
	// the routes and rules that it would install are taken into account.
	Bypass func(running bool) ([]bypass.Problem, error)
	// ForeignRouteCleanup returns the name of a network manager that removes the
	// routes and rules of other programs, or "".
	ForeignRouteCleanup func() (string, error)

	// Bind binds a TCP or UDP port, without listening, and closes it.
	Bind    func(p netip.AddrPort, udp bool) error
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	Dial    func(ctx context.Context, address string) error // TCP, closed at once

	File    func(path string) (File, error)    // fs.ErrNotExist
	ReadDir func(dir string) ([]string, error) // paths of its files
	// Access reports whether the calling thread has access, with the permission
	// bits of one class.
	Access func(path string, want fs.FileMode) error
}

// A Link is a network interface.
type Link struct {
	Name     string
	MTU      int // in bytes
	Up       bool
	Loopback bool
	Addrs    []netip.Prefix // its addresses, with the prefix length of their network
}

// An IngressPacket is a packet that arrives from outside.
type IngressPacket struct {
	Interface string // that it arrives by
	From, To  netip.Addr
	Port      uint16 // of TCP; 0 for a packet without ports
}

// A TUNInterface is an interface that the operator has created for the gateway.
type TUNInterface struct {
	TUN   bool // a TUN device without packet information header
	Up    bool
	Owner int // the user who may open it
}

// A File has the attributes of a file that determine who can access it.
type File struct {
	Mode     fs.FileMode
	UID, GID int
}

// An Account accesses files.
type Account struct {
	Name string
	UID  int
	GIDs []int
}
