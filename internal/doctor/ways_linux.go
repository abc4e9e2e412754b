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

// missing is what a gateway on this configuration has made and is there no more.
func missing(cfg *config.Config) (routes, ports []string, err error) {
	routes, err = bypass.ProtectedBy(cfg).Routes.Verify(cfg.TUN.Name)
	if err == nil {
		ports, err = routing.HostPorts{Ports: cfg.TUN.Local, UDP: cfg.LocalUDP()}.Verify(cfg.TUN.Name)
	}
	return routes, ports, err
}

// findBypasses evaluates this host, as it is or with what a start adds.
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

// arrives asks the kernel what it would do with a packet, by its rules and routes.
func arrives(a Arrival) (string, error) {
	link, err := netlink.LinkByName(a.Link)
	if err != nil {
		return "", err
	}
	req := nl.NewNetlinkRequest(unix.RTM_GETROUTE, unix.NLM_F_REQUEST)
	family, bits := unix.AF_INET, uint8(a.To.BitLen())
	if a.To.Is6() {
		family = unix.AF_INET6
	}
	req.AddData(&nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family), Dst_len: bits, Src_len: bits}})
	req.AddData(nl.NewRtAttr(unix.RTA_DST, a.To.AsSlice()))
	req.AddData(nl.NewRtAttr(unix.RTA_SRC, a.From.AsSlice()))
	req.AddData(nl.NewRtAttr(unix.RTA_IIF, nl.Uint32Attr(uint32(link.Attrs().Index))))
	if a.Port != 0 {
		req.AddData(nl.NewRtAttr(unix.RTA_IP_PROTO, []byte{unix.IPPROTO_TCP}))
		req.AddData(nl.NewRtAttr(unix.RTA_DPORT, []byte{byte(a.Port >> 8), byte(a.Port)}))
		const client = 40000 // any port of a client
		req.AddData(nl.NewRtAttr(unix.RTA_SPORT, []byte{client >> 8, client & 0xff}))
	}
	all, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENETUNREACH) {
		return "", nil // what blackhole, prohibit and unreachable answer here
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

// proxied lists the addresses for which an interface answers its neighbours.
func proxied(device string) ([]netip.Addr, error) {
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

// prepared looks at an interface that is to be there before the gateway.
func prepared(name string) (Prepared, error) {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return Prepared{}, fs.ErrNotExist
	}
	if err != nil {
		return Prepared{}, err
	}
	p := Prepared{Up: link.Attrs().Flags&net.FlagUp != 0}
	if t, ok := link.(*netlink.Tuntap); ok {
		p.TUN = t.Mode == netlink.TUNTAP_MODE_TUN && t.Flags&netlink.TUNTAP_NO_PI != 0
		p.Owner = int(t.Owner)
	}
	return p, nil
}

// clears tells whether systemd-networkd runs here and clears away what it has not made.
func clears() (string, error) {
	if _, err := os.Stat("/run/systemd/netif/state"); err != nil {
		return "", nil
	}
	left := map[string]bool{}
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
				left[strings.TrimSpace(key)] = true
			default:
				delete(left, strings.TrimSpace(key))
			}
		}
	}
	if left["ManageForeignRoutes"] && left["ManageForeignRoutingPolicyRules"] {
		return "", nil
	}
	return fmt.Sprintf("systemd-networkd (ManageForeignRoutes: %v, ManageForeignRoutingPolicyRules: %v)",
		!left["ManageForeignRoutes"], !left["ManageForeignRoutingPolicyRules"]), nil
}
