package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/bypass"
	"github.com/knockgw/knockgw/internal/routing"
)

// missingRoutes returns what is missing of the routes and rules that a gateway
// with this configuration has installed.
func missingRoutes(cfg *config.Config) (routes, ports []string, err error) {
	routes, err = bypass.ProtectedBy(cfg).Routes.Verify(cfg.TUN.Name)
	if err == nil {
		ports, err = routing.HostPorts{Ports: cfg.TUN.Local, UDP: cfg.LocalUDP()}.Verify(cfg.TUN.Name)
	}
	return routes, ports, err
}

// findBypasses evaluates this host, with the routes and rules that a start
// would add unless the gateway is running.
func findBypasses(cfg *config.Config, running bool) ([]bypass.Problem, error) {
	protected := bypass.ProtectedBy(cfg)
	s, err := bypass.Read(protected)
	if err != nil {
		return nil, err
	}
	if !running {
		s = s.With(protected)
	}
	return bypass.Evaluate(s, protected), nil
}

// ingressRoute asks the kernel how it would route a packet.
func ingressRoute(p IngressPacket) (string, error) {
	link, err := netlink.LinkByName(p.Interface)
	if err != nil {
		return "", err
	}

	req := nl.NewNetlinkRequest(unix.RTM_GETROUTE, unix.NLM_F_REQUEST)
	family, bits := unix.AF_INET, uint8(p.To.BitLen())
	if p.To.Is6() {
		family = unix.AF_INET6
	}
	req.AddData(&nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family), Dst_len: bits, Src_len: bits}})
	req.AddData(nl.NewRtAttr(unix.RTA_DST, p.To.AsSlice()))
	req.AddData(nl.NewRtAttr(unix.RTA_SRC, p.From.AsSlice()))
	req.AddData(nl.NewRtAttr(unix.RTA_IIF, nl.Uint32Attr(uint32(link.Attrs().Index))))
	if p.Port != 0 {
		req.AddData(nl.NewRtAttr(unix.RTA_IP_PROTO, []byte{unix.IPPROTO_TCP}))
		req.AddData(nl.NewRtAttr(unix.RTA_DPORT, []byte{byte(p.Port >> 8), byte(p.Port)}))
		const client = 40000 // any port of a client
		req.AddData(nl.NewRtAttr(unix.RTA_SPORT, []byte{client >> 8, client & 0xff}))
	}

	all, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENETUNREACH) {
		return "", nil // the answers of blackhole, prohibit and unreachable routes
	}
	if err != nil || len(all) == 0 {
		return "", err
	}

	attributes, err := nl.ParseRouteAttr(all[0][unix.SizeofRtMsg:])
	if err != nil {
		return "", err
	}
	for _, at := range attributes {
		if at.Attr.Type == unix.RTA_OIF && len(at.Value) >= 4 {
			out, err := net.InterfaceByIndex(int(nl.NativeEndian().Uint32(at.Value)))
			if err != nil {
				return "", err
			}
			return out.Name, nil
		}
	}
	return "", nil
}

// proxiedAddrs returns the addresses that an interface answers neighbor queries
// for.
func proxiedAddrs(device string) ([]netip.Addr, error) {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return nil, err
	}
	var all []netip.Addr
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := netlink.NeighProxyList(link.Attrs().Index, family)
		if err != nil {
			return nil, err
		}
		for _, n := range list {
			if a, ok := netip.AddrFromSlice(n.IP); ok {
				all = append(all, a.Unmap())
			}
		}
	}
	return all, nil
}

// tunInterface returns the attributes of an existing interface.
func tunInterface(name string) (TUNInterface, error) {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return TUNInterface{}, fs.ErrNotExist
	}
	if err != nil {
		return TUNInterface{}, err
	}
	p := TUNInterface{Up: link.Attrs().Flags&net.FlagUp != 0}
	if t, ok := link.(*netlink.Tuntap); ok {
		p.TUN = t.Mode == netlink.TUNTAP_MODE_TUN && t.Flags&netlink.TUNTAP_NO_PI != 0
		p.Owner = int(t.Owner)
	}
	return p, nil
}

// foreignRouteCleanup returns a description of systemd-networkd if it runs on
// this host and removes the routes or rules of other programs.
func foreignRouteCleanup() (string, error) {
	if _, err := os.Stat("/run/systemd/netif/state"); err != nil {
		return "", nil
	}
	keeps := map[string]bool{}
	files := []string{"/usr/lib/systemd/networkd.conf", "/etc/systemd/networkd.conf"}
	for _, dir := range []string{"/usr/lib/systemd", "/run/systemd", "/etc/systemd"} {
		more, err := filepath.Glob(dir + "/networkd.conf.d/*.conf")
		if err != nil {
			return "", err
		}
		files = append(files, more...)
	}

	for _, file := range files {
		b, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		for line := range strings.Lines(string(b)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			switch strings.ToLower(strings.TrimSpace(value)) {
			case "no", "false", "off", "0":
				keeps[strings.TrimSpace(key)] = true
			default:
				delete(keeps, strings.TrimSpace(key))
			}
		}
	}

	if keeps["ManageForeignRoutes"] && keeps["ManageForeignRoutingPolicyRules"] {
		return "", nil
	}
	return fmt.Sprintf("systemd-networkd (ManageForeignRoutes: %v, ManageForeignRoutingPolicyRules: %v)",
		!keeps["ManageForeignRoutes"], !keeps["ManageForeignRoutingPolicyRules"]), nil
}
