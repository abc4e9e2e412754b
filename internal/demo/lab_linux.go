package demo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"

	"github.com/knockgw/knockgw/internal/netlab"
)

// A lab is the network of a demonstration.
type lab struct {
	*netlab.Lab
	families []family
}

// A family is the lab's addresses of one IP version.
type family struct {
	protected          netip.Prefix
	hidden             netip.Addr // of the service, in protected
	attacker, upstream netip.Addr // the gateway's addresses on these links
}

// newLab builds the lab. Its errors match fs.ErrPermission and tun.ErrNoTUN.
func newLab(ctx context.Context) (*lab, error) {
	built, err := netlab.New(ctx)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%w; the demonstration builds its own network: run it as root", err)
	}
	if err != nil {
		return nil, err
	}
	if err := netlab.CheckTUN(); err != nil {
		return nil, errors.Join(err, built.Close())
	}

	l := &lab{Lab: built, families: []family{{
		protected: netlab.Protected4(), hidden: netip.MustParseAddr("10.77.0.1"),
		attacker: built.Attacker.Router4, upstream: built.Upstream.Router4,
	}}}
	if built.Client.Addr6.IsValid() {
		l.families = append(l.families, family{
			protected: netlab.Protected6(), hidden: netip.MustParseAddr("fd77::1"),
			attacker: built.Attacker.Router6, upstream: built.Upstream.Router6,
		})
	}
	return l, nil
}

// hidden lists the service's addresses.
func (l *lab) hidden() []netip.Addr {
	var all []netip.Addr
	for _, f := range l.families {
		all = append(all, f.hidden)
	}
	return all
}

// routers lists the gateway's addresses on the attacker's link.
func (l *lab) routers() []netip.Addr {
	var all []netip.Addr
	for _, f := range l.families {
		all = append(all, f.attacker)
	}
	return all
}

// picture draws the lab.
func (l *lab) picture() string {
	var prefixes []string
	for _, f := range l.families {
		prefixes = append(prefixes, f.protected.String())
	}
	return fmt.Sprintf(`client   %[1]s ---.
                               >--- gateway --- upstream %[3]s
attacker %[2]s ---'       |
                                 knock0, the TUN device: all packets to
                                 %[4]s go to knockgw
`, columns(l.Client), columns(l.Attacker), columns(l.Upstream), strings.Join(prefixes, " and "))
}

// columns writes a host's addresses in a fixed number of columns.
func columns(h *netlab.Host) string {
	return fmt.Sprintf("%-18s", strings.Trim(fmt.Sprint(h.Addrs()), "[]"))
}
