package doctor

import (
	"context"

	"github.com/knockgw/knockgw/config"
)

const (
	// Capabilities, by their numbers in capabilities(7).
	capNetBindService = 10
	capNetAdmin       = 12
	capSysAdmin       = 21
	capBPF            = 39

	// firstUnprivilegedPort is the default of ip_unprivileged_port_start.
	firstUnprivilegedPort = 1024
)

// checkPrivileges checks the capabilities that the gateway needs at its start.
func checkPrivileges(_ context.Context, c *checker) {
	all, ok := query(c, c.host.Capabilities)
	if !ok {
		return
	}
	has := func(bit int) bool { return all&(1<<bit) != 0 }
	good := true
	if !has(capNetAdmin) && !c.Existing {
		good = false
		c.report(Fail, "run as root, or grant CAP_NET_ADMIN (systemd: AmbientCapabilities=CAP_NET_ADMIN CAP_BPF)",
			"no CAP_NET_ADMIN: this user cannot create the interface and its routes")
	}
	if low := lowestPort(c.Config); low != 0 && low < firstUnprivilegedPort && !has(capNetBindService) {
		good = false
		c.report(Fail, "run as root, or grant CAP_NET_BIND_SERVICE", "no CAP_NET_BIND_SERVICE, which hiding port %d of this host needs", low)
	}
	if !has(capBPF) && !has(capSysAdmin) && c.Config.TUN.Filter != config.FilterOff {
		good = false
		c.report(filterLevel(c.Config), "grant CAP_BPF, or write tun: {filter: off}", "no CAP_BPF: packets are dropped in user space only")
	}
	if good {
		c.ok("all that are needed")
	}
}

// lowestPort returns the smallest port of tun.local, or 0.
func lowestPort(cfg *config.Config) uint16 {
	var low uint16
	for _, p := range cfg.TUN.Local {
		if low == 0 || p.Port() < low {
			low = p.Port()
		}
	}
	return low
}

// filterLevel returns the severity of a missing filter.
func filterLevel(cfg *config.Config) Level {
	if cfg.TUN.Filter == config.FilterRequire {
		return Fail
	}
	return Warn
}
