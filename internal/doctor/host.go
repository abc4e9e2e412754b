package doctor

import (
	"context"
	"io/fs"
	"net/netip"

	"github.com/knockgw/knockgw/internal/bypass"
)

// A Host is what the system says. A nil function is one that the system does not have; Running, Resolve and Dial every
// system has.
type Host struct {
	System string // as Go calls it

	Running      func(ctx context.Context) (pid int, err error) // the gateway on this configuration; control.ErrNotRunning
	Kernel       func() (release string, err error)
	Device       func() error                                 // open /dev/net/tun
	Capabilities func() (uint64, error)                       // effective, a bit each
	Filter       func() error                                 // load an eBPF filter, and forget it
	Setting      func(name string) (string, error)            // of /proc/sys/net, as ipv4/ip_forward
	Links        func() ([]Link, error)                       // all interfaces
	Route        func(netip.Addr) (device string, err error)  // by which packets to an address leave; "" for none
	Missing      func() (routes, ports []string, err error)   // of what a gateway that runs has made for tun.routes and tun.local
	Absent       func() ([]string, error)                     // addresses of tun.local that the host cannot use yet, and why
	Arrives      func(Arrival) (device string, err error)     // where a packet from outside would leave by
	Proxied      func(device string) ([]netip.Addr, error)    // addresses for which it answers its neighbours
	Bypass       func(running bool) ([]bypass.Problem, error) // what lets packets pass the gateway by; with what a start adds where none runs
	Firewall     func() (*Firewall, error)
	Interface    func(name string) (Prepared, error) // fs.ErrNotExist
	Clears       func() (string, error)              // who clears away routes and rules that are not its own, and may do so; "" for nobody
	Bind         func(netip.AddrPort, bool) error    // take a TCP port (or UDP), without listening, and give it back
	Synchronised func() (bool, error)                // the clock
	Resolve      func(ctx context.Context, host string) ([]netip.Addr, error)
	Dial         func(ctx context.Context, address string) error // TCP, closed at once
	Zone         func(name string) error                         // load a time zone
	File         func(path string) (File, error)                 // fs.ErrNotExist
	Within       func(dir string) ([]string, error)              // paths of the files in it
	Access       func(path string, want fs.FileMode) error       // whether the calling thread may, with these bits of one class
	Descriptors  func() (uint64, error)                          // that a process may have
	Memory       func() (uint64, error)                          // bytes that are to be had
}

// A Link is a network interface.
type Link struct {
	Name     string
	MTU      int // bytes
	Up       bool
	Loopback bool
	Addrs    []netip.Prefix // its addresses, with the length of their network's prefix
}

// An Arrival is a packet that comes from outside.
type Arrival struct {
	Link     string // by which it comes
	From, To netip.Addr
	Port     uint16 // of TCP, 0 for a packet without ports
}

// Prepared is an interface that somebody has prepared for the gateway.
type Prepared struct {
	TUN   bool // a TUN device without a header of its own
	Up    bool
	Owner int // the user who may open it; 0 if it is nobody's
}

// A File is what decides about who may do what with one.
type File struct {
	Mode     fs.FileMode
	UID, GID int
}

// An Account is who wants to.
type Account struct {
	Name string
	UID  int
	GIDs []int
}

// Permission bits of one class, as in fs.FileMode.
const (
	mayRead  = 4
	mayWrite = 2
	mayEnter = 1
)

// may tells whether the account has all of want with a file.
func (a Account) may(f File, want fs.FileMode) bool {
	if a.UID == 0 {
		return true
	}
	bits := f.Mode.Perm()
	switch {
	case f.UID == a.UID:
		bits >>= 6
	case contains(a.GIDs, f.GID):
		bits >>= 3
	}
	return bits&want == want
}

func contains(all []int, id int) bool {
	for _, i := range all {
		if i == id {
			return true
		}
	}
	return false
}
