package doctor

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/bypass"
	"github.com/knockgw/knockgw/internal/filter"
	"github.com/knockgw/knockgw/internal/routing"
)

// addQueries sets the functions that Linux provides.
func (h *Host) addQueries(cfg *config.Config) {
	h.Kernel = func() (string, error) {
		var u unix.Utsname
		err := unix.Uname(&u)
		return unix.ByteSliceToString(u.Release[:]), err
	}
	h.OpenTUN = func() error {
		f, err := os.OpenFile(tunDevice, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		return f.Close()
	}
	h.Capabilities = func() (uint64, error) {
		text, err := field("/proc/self/status", "CapEff:")
		if err != nil {
			return 0, err
		}
		return strconv.ParseUint(text, 16, 64)
	}
	h.LoadFilter = loadFilter
	h.Setting = func(name string) (string, error) {
		b, err := os.ReadFile(filepath.Join("/proc/sys/net", filepath.FromSlash(name)))
		return strings.TrimSpace(string(b)), err
	}

	h.Route = func(a netip.Addr) (string, error) { return routing.RouteInterface(a), nil }
	h.MissingRoutes = func() (routes, ports []string, err error) { return missingRoutes(cfg) }
	h.UnavailableAddrs = func() ([]string, error) {
		return routing.HostPorts{Ports: cfg.TUN.Local, UDP: cfg.LocalUDP()}.UnavailableAddrs()
	}
	h.Bypass = func(running bool) ([]bypass.Problem, error) { return findBypasses(cfg, running) }
	h.IngressRoute, h.ProxiedAddrs, h.Interface = ingressRoute, proxiedAddrs, tunInterface
	h.Firewall, h.ForeignRouteCleanup = readFirewall, foreignRouteCleanup

	h.ReadDir = func(dir string) ([]string, error) {
		entries, err := os.ReadDir(dir)
		paths := make([]string, 0, len(entries))
		for _, e := range entries {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
		return paths, err
	}
	h.Access = func(path string, want fs.FileMode) error {
		return unix.Faccessat(unix.AT_FDCWD, path, uint32(want), unix.AT_EACCESS)
	}

	h.Bind = bind
	h.ClockSynced = func() (bool, error) {
		state, err := unix.Adjtimex(&unix.Timex{})
		return state != unix.TIME_ERROR, err
	}
	h.File = func(path string) (File, error) {
		info, err := os.Stat(path)
		if err != nil {
			return File{}, err
		}
		f := File{Mode: info.Mode()}
		if s, ok := info.Sys().(*syscall.Stat_t); ok {
			f.UID, f.GID = int(s.Uid), int(s.Gid)
		}
		return f, nil
	}

	h.Descriptors = func() (uint64, error) {
		var r unix.Rlimit
		err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r)
		return r.Max, err // the runtime raises the soft limit to it
	}
	h.Memory = func() (uint64, error) {
		text, err := field("/proc/meminfo", "MemAvailable:")
		if err != nil {
			return 0, err
		}
		kib, err := strconv.ParseUint(text, 10, 64)
		return kib << 10, err
	}
}

// field returns the first word after name in the line of a /proc file that
// begins with it.
func field(path, name string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		if words := strings.Fields(lines.Text()); len(words) > 1 && words[0] == name {
			return words[1], nil
		}
	}
	return "", fmt.Errorf("%s has no %s", path, name)
}

// bind binds a port as the gateway does, and closes it. It does not listen.
func bind(p netip.AddrPort, udp bool) error {
	family, kind := unix.AF_INET, unix.SOCK_STREAM
	var address unix.Sockaddr = &unix.SockaddrInet4{Port: int(p.Port())}
	if p.Addr().Is6() {
		family, address = unix.AF_INET6, &unix.SockaddrInet6{Port: int(p.Port()), Addr: p.Addr().As16()}
	} else {
		address.(*unix.SockaddrInet4).Addr = p.Addr().As4()
	}
	if udp {
		kind = unix.SOCK_DGRAM
	}

	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if !udp {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err == nil { // the address may be tentative or missing: routing.PortReservation is bound in the same way
		err = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_FREEBIND, 1)
	}
	if err == nil {
		err = unix.Bind(fd, address)
	}
	if errors.Is(err, unix.EACCES) {
		err = fs.ErrPermission // reported by checkPrivileges
	}
	return errors.Join(err, unix.Close(fd))
}

// loadFilter loads a filter for one flow and closes it.
func loadFilter() error {
	f, err := filter.Open(filter.Options{Flows: 1, Sources: 1, Expected: 1})
	if err != nil {
		return err
	}
	return f.Close()
}
