package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/control"
	"github.com/knockgw/knockgw/internal/termsafe"
)

// What the kernel has to offer, and to whom.

const (
	// The first Linux whose programs the filter can be.
	filterMajor, filterMinor = 5, 15
	// The first whose tables whoever has them open may use.
	tablesMajor, tablesMinor = 5, 19
	// Capabilities, by their numbers in capabilities(7).
	capNetBindService = 10
	capNetAdmin       = 12
	capSysAdmin       = 21
	capBPF            = 39
	// firstFreePort is the default of ip_unprivileged_port_start.
	firstFreePort = 1024
)

func (e *examination) gateway(ctx context.Context) {
	const check = "gateway"
	if e.Config.Control.Socket == "" {
		e.bad(Warn, check, "write control: {socket: /run/knockgw/control.sock}", "no control.socket: whether one runs is not known, and reload needs a signal")
		return
	}
	pid, err := e.host.Running(ctx)
	switch {
	case err == nil:
		e.running = true
		e.ok(check, "runs, process %d", pid)
	case errors.Is(err, control.ErrNotRunning):
		e.ok(check, "does not run")
	case !errors.Is(err, fs.ErrPermission):
		e.bad(Fail, check, fmt.Sprintf("ss -lxp src %s # who has it: end that, or write another control: {socket: ...}", termsafe.Shell(e.Config.Control.Socket)),
			"somebody else listens at the control socket: %v", err)
	default:
		e.unknown(check, err)
	}
}

func (e *examination) system(context.Context) {
	const check = "system"
	if e.host.Kernel == nil {
		e.bad(Warn, check, "set routes by hand: see docs/host-modes.md", "%s is untested, and most is not checked there", e.host.System)
		return
	}
	release, err := e.host.Kernel()
	if err != nil {
		e.unknown(check, err)
		return
	}
	major, minor, err := version(release)
	if err != nil {
		e.unknown(check, err)
		return
	}
	if major < filterMajor || major == filterMajor && minor < filterMinor {
		e.bad(Warn, check, "update the kernel", "Linux %s is older than %d.%d: packets are refused in user space only", release, filterMajor, filterMinor)
		return
	}
	e.ok(check, "Linux %s", release)
}

// tunDevice is what a TUN interface is opened by.
const tunDevice = "/dev/net/tun"

func (e *examination) device(context.Context) {
	const check = "TUN device"
	if e.host.Device == nil {
		e.unchecked(check)
		return
	}
	err := e.host.Device()
	if err == nil && e.Prepared { // the account opens it itself
		if ok, err := e.may(tunDevice, mayRead|mayWrite); err == nil && !ok {
			e.bad(Fail, check, "chmod 0666 "+tunDevice, "%s may not be opened by %s", tunDevice, e.Account.Name)
			return
		}
	}
	switch {
	case err == nil:
		e.ok(check, "/dev/net/tun can be opened")
	case errors.Is(err, fs.ErrPermission):
		e.bad(Fail, check, "chmod 0666 /dev/net/tun # or run as root; in a container, pass --device /dev/net/tun", "/dev/net/tun may not be opened")
	case errors.Is(err, fs.ErrNotExist):
		e.bad(Fail, check, "modprobe tun # in a container, pass --device /dev/net/tun", "/dev/net/tun is missing")
	default:
		e.bad(Fail, check, "modprobe tun", "/dev/net/tun cannot be opened: %v", err)
	}
}

func (e *examination) privileges(context.Context) {
	const check = "privileges"
	all, ok := learn(e, check, e.host.Capabilities)
	if !ok {
		return
	}
	has := func(bit int) bool { return all&(1<<bit) != 0 }
	good := true
	if !has(capNetAdmin) && !e.Prepared {
		good = false
		e.bad(Fail, check, "run as root, or grant CAP_NET_ADMIN (systemd: AmbientCapabilities=CAP_NET_ADMIN CAP_BPF)",
			"no CAP_NET_ADMIN: the interface and its routes cannot be made by whoever asks here")
	}
	if low := e.lowest(); low != 0 && low < firstFreePort && !has(capNetBindService) {
		good = false
		e.bad(Fail, check, "run as root, or grant CAP_NET_BIND_SERVICE", "no CAP_NET_BIND_SERVICE, which hiding port %d of this host needs", low)
	}
	if !has(capBPF) && !has(capSysAdmin) && e.Config.TUN.Filter != config.FilterOff {
		good = false
		e.bad(e.filterLevel(), check, "grant CAP_BPF, or write tun: {filter: off}", "no CAP_BPF: packets are refused in user space only")
	}
	if good {
		e.ok(check, "all that are needed")
	}
}

// lowest is the smallest port of tun.local, 0 if there is none.
func (e *examination) lowest() uint16 {
	var low uint16
	for _, p := range e.Config.TUN.Local {
		if low == 0 || p.Port() < low {
			low = p.Port()
		}
	}
	return low
}

// filterLevel is how bad it is to be without the filter.
func (e *examination) filterLevel() Level {
	if e.Config.TUN.Filter == config.FilterRequire {
		return Fail
	}
	return Warn
}

func (e *examination) filter(context.Context) {
	const check = "filter"
	switch {
	case e.Config.TUN.Filter == config.FilterOff:
		e.ok(check, "off, as tun.filter says")
	case e.host.Filter == nil:
		e.unchecked(check)
	default:
		if err := e.host.Filter(); err != nil {
			e.bad(e.filterLevel(), check, "grant CAP_BPF; where the kernel forbids it, write tun: {filter: off}", "not permitted: %v", err)
			return
		}
		if e.restricted() {
			e.bad(Warn, check, "write tun: {filter: off}, or update the kernel, or sysctl -w kernel.unprivileged_bpf_disabled=0",
				"this kernel keeps its tables from whoever has no CAP_BPF, as the gateway has none any more: no counts of the filter, and after a reload it passes everything")
			return
		}
		e.ok(check, "the kernel takes it")
	}
}

// restricted tells whether the tables of a filter are closed to a process without
// CAP_BPF that has them open: before 5.19, where the setting says so.
func (e *examination) restricted() bool {
	if e.host.Kernel == nil || e.host.Setting == nil {
		return false
	}
	release, err := e.host.Kernel()
	if err != nil {
		return false
	}
	major, minor, err := version(release)
	if err != nil || major > tablesMajor || major == tablesMajor && minor >= tablesMinor {
		return false
	}
	disabled, err := e.enabled("../kernel/unprivileged_bpf_disabled")
	return err == nil && disabled != 0
}

// version reads a kernel's release.
func version(release string) (major, minor int, err error) {
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return 0, 0, fmt.Errorf("a kernel of version %q", release)
	}
	return major, minor, nil
}

func (e *examination) clock(context.Context) {
	const check = "clock"
	if e.host.Synchronised == nil {
		e.unchecked(check)
		return
	}
	synchronised, err := e.host.Synchronised()
	switch {
	case err != nil:
		e.unknown(check, err)
	case !synchronised:
		e.bad(Warn, check, "timedatectl set-ntp true # or run chrony", "not synchronised; knocks are refused whose time is %v away from it", e.Config.Knock.Window)
	default:
		e.ok(check, "synchronised")
	}
}

func (e *examination) zones(context.Context) {
	const check, example = "time zones", "Europe/Berlin"
	if e.host.Zone == nil {
		e.unchecked(check)
		return
	}
	if err := e.host.Zone(example); err != nil {
		e.bad(Warn, check, "apt install tzdata", "%v: clients[].hours can have no zone", err)
		return
	}
	e.ok(check, "known")
}

// flowDescriptors is how many descriptors a flow takes: the connection to its
// upstream. spareDescriptors is for everything else.
const (
	flowDescriptors  = 1
	spareDescriptors = 64
	// flowMemory is what an idle flow takes, in bytes: docs/performance.md, rounded up.
	flowMemory = 24 << 10
	mib        = 1 << 20
)

func (e *examination) descriptors(context.Context) {
	const check = "descriptors"
	have, ok := learn(e, check, e.host.Descriptors)
	if !ok {
		return
	}
	if need := uint64(e.Config.Limits.Flows)*flowDescriptors + spareDescriptors; have < need {
		e.bad(Warn, check, fmt.Sprintf("systemd: LimitNOFILE=%d; elsewhere ulimit -n %d; or lower limits.flows", need, need),
			"a process may have %d, and limits.flows is %d", have, e.Config.Limits.Flows)
		return
	}
	e.ok(check, "%d", have)
}

func (e *examination) memory(context.Context) {
	const check = "memory"
	have, ok := learn(e, check, e.host.Memory)
	if !ok {
		return
	}
	if need := uint64(e.Config.Limits.Flows) * flowMemory; have < need {
		e.bad(Warn, check, "write limits: {flows: "+strconv.FormatUint(have/2/flowMemory, 10)+"}",
			"%d MiB to be had, and limits.flows, %d, may come to take %d MiB", have/mib, e.Config.Limits.Flows, need/mib)
		return
	}
	e.ok(check, "%d MiB to be had", have/mib)
}

// listed joins a few names for a line.
func listed(names []string) string { return strings.Join(names, ", ") }

// joinedLines makes one line of an error of several.
func joinedLines(err error) string {
	return strings.Join(strings.Split(strings.TrimSpace(err.Error()), "\n"), "; ")
}
